"""A server takes no checkpoints of `torch.save` unless it is started with `--allow-pickles`."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from graphflow_nodes.files.folders import BUILTIN, ModelFolders
from graphflow_server.worker.config import WorkerConfig

import graphflow as gf

LOAD = {
    "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "small.ckpt"}},
    "2": {"class_type": "SaveLatent", "inputs": {"samples": ["3", 0], "filename_prefix": "x"}},
    "3": {"class_type": "KSampler", "inputs": {}},
}


def problem(folder: Path, config: WorkerConfig) -> gf.Problem | None:
    """What the loader's own check finds in the file."""
    with config.engine() as engine:
        found = [one for one in engine.validate(gf.Workflow.from_json(LOAD)) if one.node == "1"]
    return found[0] if found else None


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_is_refused_with_what_to_do_unless_the_server_allows_it(tmp_path, legacy):
    (tmp_path / "checkpoints").mkdir()
    torch.save(
        {"state_dict": {"x": torch.zeros(3)}},
        tmp_path / "checkpoints" / "small.ckpt",
        _use_new_zipfile_serialization=not legacy,
    )
    refused = problem(tmp_path, WorkerConfig(models=(tmp_path,)))
    assert refused is not None and refused.code == "pickled_model" and refused.input == "ckpt_name"
    assert "--allow-pickles" in (refused.hint or "")
    allowed = problem(tmp_path, WorkerConfig(models=(tmp_path,), pickles=True))
    assert allowed is not None and allowed.code == "unknown_model", "it is read, and found to be another thing"
    assert WorkerConfig.from_json(WorkerConfig(pickles=True).to_json()).pickles


def test_upscalers_and_embeddings_of_torch_save_are_taken_and_checkpoints_are_not_wherever_they_lie(tmp_path):
    """They are published as `.pth` and `.pt` and as nothing else; a `.ckpt` has a safetensors file beside it."""
    taken = {"upscale_models": "big.pth", "embeddings": "cat.pt", "ipadapter": "face.bin"}
    refused = {"vae": "old.ckpt", "checkpoints": "renamed.pt"}
    for kind, name in {**taken, **refused}.items():
        (tmp_path / kind).mkdir()
        torch.save({"x": torch.zeros(3)}, tmp_path / kind / name)
    folders = ModelFolders([tmp_path], pickles=False)
    for kind, name in taken.items():
        assert folders.find(kind, name) == tmp_path / kind / name
    for kind, name in refused.items():
        with pytest.raises(gf.GraphFlowError, match="is a pickle"):
            folders.find(kind, name)


def test_a_page_and_a_renamed_safetensors_are_known_by_their_content(tmp_path):
    place = tmp_path / "checkpoints" / "small.ckpt"
    place.parent.mkdir()
    place.write_text("<!DOCTYPE html><html>")
    found = problem(tmp_path, WorkerConfig(models=(tmp_path,)))
    assert found is not None and "it is a web page" in found.message
    weights = next(BUILTIN.rglob("*.safetensors"))
    shutil.copy(weights, place)
    found = problem(tmp_path, WorkerConfig(models=(tmp_path,)))
    assert found is None or found.code in ("unknown_model", "wrong_file"), "its header is read"
