"""Weights that several processes hold once."""

import subprocess
import sys

import pytest
import torch
from graphflow_nodes.devices.mapped_weights import FOLDER_VARIABLE, MappedWeights

import graphflow as gf

GRAPH = gf.Workflow.load("workflows/text_to_image.json").set_all(
    {"EmptyLatentImage.batch_size": 1, "KSampler.steps": 2}
)


def test_weights_come_back_as_they_were_at_aligned_addresses(tmp_path):
    weights = {
        "a": torch.randn(3, 5),
        "b": torch.randn(7).bfloat16(),
        "c": torch.arange(4),
        "d": torch.tensor(2.5),
        "e": torch.empty(0, 4),
    }
    folder = MappedWeights(tmp_path / "weights")
    assert folder.get("key") == {}
    folder.put("key", weights)
    folder.put("key", {"a": torch.zeros(1)})
    found = folder.get("key")
    assert found.keys() == weights.keys() and folder.get("other") == {}
    for name, weight in weights.items():
        assert found[name].dtype == weight.dtype and torch.equal(found[name], weight)
        assert weight.numel() == 0 or found[name].data_ptr() % 64 == 0
    found["a"].zero_()
    assert torch.equal(folder.get("key")["a"], weights["a"]), "who writes to a weight has a copy of that page"
    assert [path.suffix for path in (tmp_path / "weights").iterdir()] == [""]


def test_a_damaged_or_missing_file_is_no_weights(tmp_path):
    folder = MappedWeights(tmp_path)
    folder.put("key", {"a": torch.ones(8)})
    (path,) = tmp_path.iterdir()
    path.write_bytes(b"")
    assert folder.get("key") == {}


SCRIPT = """
import sys
from pathlib import Path
import graphflow as gf
graph = gf.Workflow.load("workflows/text_to_image.json")
graph = graph.set_all({"EmptyLatentImage.batch_size": 1, "KSampler.steps": 2})
with gf.Engine(settings=gf.Settings(output_dir=Path(sys.argv[1]))) as engine:
    (image,) = engine.run(graph).images
maps = Path("/proc/self/smaps").read_text().split("VmFlags")
mine = [part for part in maps if sys.argv[2] in part]
private = sum(int(line.split()[1]) for part in mine for line in part.splitlines() if line.startswith("Anonymous:"))
print(image.path, sum(1 for part in mine), private)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel")
def test_processes_map_one_file_and_make_the_image_of_a_process_of_its_own(tmp_path, monkeypatch):
    with gf.Engine(settings=gf.Settings(output_dir=tmp_path / "plain")) as engine:
        (plain,) = engine.run(GRAPH).images
    shared = tmp_path / "shared"
    monkeypatch.setenv(FOLDER_VARIABLE, str(shared))
    for name in ("one", "two"):
        command = [sys.executable, "-c", SCRIPT, str(tmp_path / name), str(shared)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        path, count, private = done.stdout.split()
        assert int(count) >= 3 and int(private) == 0, "mapped, and no page of it is a copy"
        gf.testing.assert_images_equal(path, plain)
