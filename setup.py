"""The packages of the four folders, whose names differ from the folders'; the rest is pyproject.toml.

An editable install puts a folder of links with the packages' own names on Python's path, so that mypy, pyright and
editors find them there; a new file is there at once. setuptools' own way is an import hook, which no type checker
follows; it stays where the system makes no links.
"""

import sys
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
PLACES = {
    "graphflow": "graphflow",
    "graphflow_nodes": "nodes",
    "graphflow_server": "server",
    "graphflow_workflows": "workflows",
}
LINKS = ".packages"


def places() -> dict[str, str]:
    """The folder of each package."""
    if "editable_wheel" in sys.argv:
        try:
            return {"": link_packages()}
        except OSError as error:
            print(f"without links ({error}): type checkers will not find the packages", file=sys.stderr)
    return PLACES


def link_packages() -> str:
    """Make the folder of links. Returns its name."""
    (ROOT / LINKS).mkdir(exist_ok=True)
    for name, place in (*PLACES.items(), ("graphflow_launcher.py", "graphflow_launcher.py")):
        link = ROOT / LINKS / name
        link.unlink(missing_ok=True)
        link.symlink_to(Path("..", place))
    return LINKS


setup(
    package_dir=places(),
    packages=[
        f"{name}{inner}"
        for name, place in PLACES.items()
        for inner in ("", *(f".{one}" for one in find_packages(place)))
    ],
)
