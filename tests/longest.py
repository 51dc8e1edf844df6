"""Which files of tests take long, so that they begin first: `python -m tests.longest REPORT.xml` writes the table anew.

The processes of a run take files from one queue (`--dist loadscope`). If the last file takes two minutes, all other
processes wait for it. REPORT.xml is what `pytest --junitxml=REPORT.xml` writes; files of the table that it does not
have keep their seconds.
"""

import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

__all__ = ["longest_first", "seconds", "write"]

ROOT = Path(__file__).parents[1]
TABLE = Path(__file__).with_name("longest.txt")
LEAST = 5.0
"""Seconds below which a file needs no line: it may run at any time."""


def seconds():
    """File -> how long its tests take, in seconds."""
    lines = (line.split() for line in TABLE.read_text().splitlines())
    return {file: float(taken) for taken, file in lines}


def longest_first(items):
    """The same tests: those of files that take longest first, all others in their order."""
    known = seconds()
    return sorted(items, key=lambda item: -known.get(item.path.relative_to(ROOT).as_posix(), 0.0))


def reported(file):
    """The seconds that a JUnit report states."""
    found = Counter()
    for case in ElementTree.parse(file).iter("testcase"):
        found[f"{case.get('classname', '').replace('.', '/')}.py"] += float(case.get("time", 0))
    return found


def write(report):
    """The table with the seconds of a report."""
    now = {file: taken for file, taken in {**seconds(), **reported(report)}.items() if (ROOT / file).exists()}
    longest = sorted(((taken, file) for file, taken in now.items() if taken >= LEAST), reverse=True)
    TABLE.write_text("".join(f"{taken:.0f} {file}\n" for taken, file in longest))


if __name__ == "__main__":
    write(sys.argv[1])
