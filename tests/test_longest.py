"""The order in which several processes begin with the files of tests."""

from types import SimpleNamespace

from tests import longest

REPORT = """<testsuites><testsuite name="pytest">
<testcase classname="tests.test_longest" name="a" time="7.5" />
<testcase classname="tests.test_longest" name="b" time="4.0" />
<testcase classname="tests.test_circles" name="a" time="0.1" />
<testcase classname="tests.gone" name="a" time="90" />
</testsuite></testsuites>"""


def item(file, name):
    return SimpleNamespace(path=longest.ROOT / file, name=name)


def test_every_file_of_the_table_is_there():
    assert [file for file in longest.seconds() if not (longest.ROOT / file).is_file()] == []


def test_files_that_take_longest_begin_first_and_all_others_keep_their_order(monkeypatch):
    monkeypatch.setattr(longest, "seconds", lambda: {"tests/b.py": 9.0, "tests/d.py": 30.0})
    given = [item(f"tests/{file}.py", name) for file in "abcd" for name in "xy"]
    found = [f"{one.path.stem}{one.name}" for one in longest.longest_first(given)]
    assert found == ["dx", "dy", "bx", "by", "ax", "ay", "cx", "cy"]


def test_a_report_makes_the_table_anew(tmp_path, monkeypatch):
    table, report = tmp_path / "longest.txt", tmp_path / "report.xml"
    table.write_text("20 tests/test_circles.py\n12 tests/test_readme.py\n")
    report.write_text(REPORT)
    monkeypatch.setattr(longest, "TABLE", table)
    longest.write(report)
    assert table.read_text() == "12 tests/test_readme.py\n12 tests/test_longest.py\n"
