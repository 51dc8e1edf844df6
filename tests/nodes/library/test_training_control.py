"""ControlNets in training: what is learnt, that a stop changes no bit, and folders that load."""

import pytest
import torch
from diffusers import ControlNetModel
from graphflow_nodes.families.controls import open_control
from graphflow_nodes.files.load import load_part

from tests.graphs import graph
from tests.nodes.library.training_runs import equal, networks_in, run, settings_of, stopped_and_resumed, wrong


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    return networks_in(tmp_path_factory.mktemp("networks"))


@pytest.fixture
def settings(places, tmp_path):
    return settings_of(places, tmp_path)


@pytest.mark.parametrize("shape", ["copy", "slim"])
def test_a_control_net_learns_its_hints_and_loads_here_and_in_diffusers(shape, settings, places, tmp_path):
    folder = {"vae": "@m:2", "clip": "@m:1", "folder": "things", "resolution": 64, "bucket_step": 16}
    hints = {"hints": "canny"} if shape == "copy" else {"hints": "folder", "hints_folder": "marks"}
    stated = {"steps": 25, "batch_size": 2, "learning_rate": 1e-2, "shape": shape, "validate_every": 25}
    sampler = {"model": "@m", "positive": "@g", "negative": "@g:1", "latent_image": "@e", "steps": 2, "cfg": 1.0}
    document = graph(
        m=("NewModel", {"architecture": "small", "seed": 1}),
        d=("TrainingFolder", {**folder, **hints}),
        t=("TrainControlNet", {"model": "@m", "training_set": "@d", "validation_set": "@d", **stated}),
        w=("TrainControlNet", {"model": "@m", "training_set": "@d", "validation_set": "@d", "shape": shape}),
        s=("ControlNetSave", {"control": "@t"}),
        n=("ApplyTrainedControlNet", {"control": "@t"}),
        i=("LoadImageSetFromFolderNode", {"folder": "marks"}),
        p=("CLIPTextEncode", {"text": "red", "clip": "@m:1"}),
        g=("ControlNetApplyAdvanced", {"positive": "@p", "negative": "@p", "control_net": "@n", "image": "@i"}),
        e=("EmptyLatentImage", {"width": 64, "height": 64}),
        k=("KSampler", {**sampler, "sampler_name": "euler", "scheduler": "normal"}),
    ).to_json()
    document["w"]["inputs"] |= {"steps": 1, "batch_size": 2, "learning_rate": 0.0, "validate_every": 1}
    result = run(settings, tmp_path / "c", document, "t", "w", "s", "k")
    (_, after), (_, before) = (result[node].outputs["losses"]["validation"][0] for node in "tw")
    assert after < 0.97 * before
    trained = result["t"].outputs["control"]["weights"]
    assert any(".attentions." in name for name in trained) is (shape == "copy")
    (path,) = result["s"].paths
    assert equal(ControlNetModel.from_pretrained(path, local_files_only=True).state_dict(), trained)
    assert equal(load_part(open_control(path, settings), "denoiser", torch.float32).state_dict(), trained)
    (places / "models" / "controlnet" / shape).symlink_to(path)
    document["n"] = {"class_type": "ControlNetLoader", "inputs": {"control_net_name": shape}}
    loaded = run(settings, tmp_path / "d", document, "k")["k"].outputs["LATENT"]["samples"]
    assert torch.equal(loaded, result["k"].outputs["LATENT"]["samples"])
    if shape == "slim":
        again = stopped_and_resumed(settings, tmp_path / "cut", document, 5)["control"]["weights"]
        assert equal(again, trained)


def test_a_new_control_net_changes_nothing_and_begins_as_the_u_net(settings, places):
    from graphflow_nodes.families.new_controls import new_control_for
    from graphflow_nodes.training.control import new_control
    from graphflow_nodes.training.new_model import new_model

    model = new_model(places / "models" / "checkpoints" / "small", 1, settings).model
    control, unet = new_control(model, new_control_for(model), 0), load_part(model, "denoiser", torch.float32)
    asked = (torch.randn(1, 4, 8, 8), torch.tensor([500.0]), torch.randn(1, 77, 16))
    down, mid = control(*asked, torch.rand(1, 3, 64, 64), return_dict=False)
    assert all(float(one.abs().max()) == 0 for one in (*down, mid))
    own = unet.state_dict()
    shared = [name for name in control.state_dict() if name in own]
    assert len(shared) > 30 and all(torch.equal(control.state_dict()[name], own[name]) for name in shared)


def test_a_control_net_without_hints_is_refused_with_the_reason(settings, tmp_path):
    folder = {"vae": "@m:2", "clip": "@m:1", "folder": "things", "resolution": 64, "bucket_step": 16}
    base = graph(
        m=("NewModel", {"architecture": "small", "seed": 1}),
        d=("TrainingFolder", folder),
        t=("TrainControlNet", {"model": "@m", "training_set": "@d", "batch_size": 1, "steps": 1}),
    ).to_json()
    assert "training_set: 2 of 2 examples have no hint" in wrong(settings, tmp_path / "a", base)
    base["d"]["inputs"] |= {"hints": "folder", "hints_folder": "nowhere"}
    assert "hints_folder: 'nowhere' has no image for 2 of 2 images" in wrong(settings, tmp_path / "b", base)
