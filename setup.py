"""The packages of the three folders, found here because their names differ from the folders'; the rest is
pyproject.toml."""

from setuptools import find_packages, setup

PLACES = {"graphflow": "graphflow", "graphflow_nodes": "nodes", "graphflow_server": "server"}

setup(
    packages=[
        *(
            f"{name}{inner}"
            for name, place in PLACES.items()
            for inner in ("", *(f".{one}" for one in find_packages(place)))
        ),
        "graphflow_nodes.workflows",
    ]
)
