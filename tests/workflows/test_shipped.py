"""Every workflow that ships in the package runs."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

import graphflow as gf
from graphflow.cli import main

FOLDER = Path(__file__).parents[2] / "workflows"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_a_shipped_workflow_runs_and_its_picture_runs_again(path, tmp_path, capsys):
    assert main(["run", str(path), "--output-dir", str(tmp_path), "--quiet"]) == 0
    pictures = sorted(tmp_path.glob("*.png"))
    assert pictures
    with Image.open(pictures[0]) as picture:
        assert json.loads(picture.text["prompt"]) == json.loads(path.read_text())
    assert main(["validate", str(pictures[0])]) == 0


def test_an_unchanged_run_is_cached_and_a_new_seed_is_not(tmp_path):
    engine = gf.Engine(settings=gf.Settings(output_dir=tmp_path))
    workflow = gf.Workflow.load(FOLDER / "text_to_image.json").set("KSampler.steps", 2)
    first = engine.run(workflow)
    again = engine.run(workflow)
    assert len(first.timings) == 7 and not again.timings
    assert [image.path for image in again["SaveImage"].images] == [image.path for image in first["SaveImage"].images]
    assert set(engine.run(workflow.set("KSampler.seed", 2)).timings) == {"3", "8", "9"}


def test_the_list_of_workflows_names_each_of_them():
    listed = re.findall(r"^\| `(\w+)`", (FOLDER / "README.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(path.stem for path in FOLDER.glob("*.json"))
