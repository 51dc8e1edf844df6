"""An engine that knows the packs of `packs/`."""

from pathlib import Path

import pytest

import graphflow as gf

PACKS = Path(__file__).parent / "packs"


@pytest.fixture(scope="module")
def registry():
    return gf.Registry.installed([PACKS])


@pytest.fixture
def engine(registry, tmp_path):
    settings = gf.Settings(output_dir=tmp_path / "output", input_dir=tmp_path / "input", temp_dir=tmp_path / "temp")
    (tmp_path / "input").mkdir()
    with gf.Engine(registry, settings) as engine:
        yield engine
