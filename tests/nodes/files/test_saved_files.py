"""Files that a run writes, when the run has to be made again."""

from pathlib import Path
from threading import Event

import graphflow_nodes.files.prefixes as prefixes
import graphflow_nodes.files.user_files as files
import pytest
from graphflow_nodes.files.user_files import save_numbered

from graphflow import Context, Settings


def context(output: Path, run_id: str | None, call: int = 0) -> Context:
    settings = Settings(output_dir=output)
    claims = settings.claims(run_id) if run_id else None
    return Context("7", settings, dict, lambda _: None, Event(), claims, call=call)


def save(output: Path, run_id: str | None, *contents: bytes, prefix: str = "a", call: int = 0) -> list[str]:
    made = save_numbered(contents, context(output, run_id, call), output, prefix, ".txt", "output")
    return [f"{item['subfolder']}/{item['filename']}".lstrip("/") for item in made]


def visible(output: Path) -> list[str]:
    found = (path.relative_to(output) for path in output.rglob("*") if path.is_file())
    return sorted(str(path) for path in found if not path.parts[0].startswith("."))


def test_a_named_run_that_is_made_again_finds_its_files_and_writes_none_twice(tmp_path):
    first = save(tmp_path, "run", b"one", b"two")
    assert save(tmp_path, "run", b"one", b"two") == first
    assert visible(tmp_path) == ["a_00001_.txt", "a_00002_.txt"]
    assert save(tmp_path, "another", b"one") == ["a_00003_.txt"]


def test_a_prefix_with_the_time_in_it_means_the_time_of_the_first_attempt(tmp_path, monkeypatch):
    monkeypatch.setattr(prefixes, "_fill_in", lambda prefix, *_: prefix.replace("%minute%", "58"))
    first = save(tmp_path, "run", b"one", prefix="%minute%/a")
    monkeypatch.setattr(prefixes, "_fill_in", lambda prefix, *_: prefix.replace("%minute%", "59"))
    assert save(tmp_path, "run", b"one", prefix="%minute%/a") == first == ["58/a_00001_.txt"]
    assert visible(tmp_path) == ["58/a_00001_.txt"]


def test_each_call_of_a_node_has_files_of_its_own(tmp_path):
    assert save(tmp_path, "run", b"one", call=0) == ["a_00001_.txt"]
    assert save(tmp_path, "run", b"two", call=1) == ["a_00002_.txt"]


@pytest.mark.parametrize("moment", ["replace", "link"])
def test_a_run_that_dies_while_it_writes_leaves_nothing_half_written_among_the_outputs(tmp_path, monkeypatch, moment):
    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    save(tmp_path, "run")  # the note about the prefix is there
    monkeypatch.setattr(files.os, moment, die)
    with pytest.raises(Killed):
        save(tmp_path, "run", b"one")
    monkeypatch.undo()
    assert visible(tmp_path) == []
    assert save(tmp_path, "run", b"one") == ["a_00001_.txt"]
    assert [path.read_bytes() for path in tmp_path.glob("*.txt")] == [b"one"]
