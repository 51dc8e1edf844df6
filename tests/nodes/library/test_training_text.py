"""Text encoders in training: captions predict images, a stop changes no bit, and a denoiser learns from them."""

import pytest
import torch
from graphflow_nodes.files.load import load_part

from tests.graphs import graph
from tests.nodes.families import tiny
from tests.nodes.library.training_runs import equal, networks_in, run, settings_of, stopped_and_resumed, wrong


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    root = networks_in(tmp_path_factory.mktemp("networks"))
    tiny.tiny("sdxl").save(root / "models" / "checkpoints" / "sdxl.safetensors")
    return root


@pytest.fixture
def settings(places, tmp_path):
    return settings_of(places, tmp_path)


def wanted(loader=None, folder=None, then=None, **options):
    stated = {"steps": 12, "batch_size": 2, "learning_rate": 3e-3, "seed": 1, **options}
    data = {"vae": "@m:2", "folder": "things", "resolution": 64, **(folder or {})}
    denoiser = {"steps": 2, "batch_size": 2, "clip": "@a:1", "train_text_encoder": False, **(then or {})}
    return graph(
        m=loader or ("NewModel", {"architecture": "fine", "seed": 1}),
        d=("TrainingFolder", data),
        t=("TrainTextEncoder", {"model": "@m", "clip": "@m:1", "training_set": "@d", **stated}),
        a=("ApplyTrainedWeights", {"trained": "@t", "model": "@m", "clip": "@m:1", "vae": "@m:2"}),
        u=(
            "TrainTextToImage",
            {"model": "@a", "training_set": "@d", **denoiser},
        ),
        b=("ApplyTrainedWeights", {"trained": "@u", "model": "@a", "clip": "@a:1", "vae": "@a:2"}),
    )


def test_captions_learn_to_predict_images_and_a_stop_changes_no_bit(settings, tmp_path):
    document = wanted(steps=40, validate_every=20, ema_decay=0.9).to_json()
    document["t"]["inputs"]["validation_set"] = ["d", 0]
    result = run(settings, tmp_path / "c", document, "t")["t"].outputs
    losses = result["losses"]["training"]
    assert losses[-1] < 0.5 * losses[0]
    (_, early), (_, late) = result["losses"]["validation"]
    assert late < early
    assert set(result["trained"]["weights"]) == {"text.l"}, "the network that predicts is not kept"
    again = stopped_and_resumed(settings, tmp_path / "cut", document, 7)["trained"]
    assert equal(again["weights"]["text.l"], result["trained"]["weights"]["text.l"])


def test_a_denoiser_learns_from_a_text_encoder_that_stays_as_it_is(settings, tmp_path):
    result = run(settings, tmp_path / "c", wanted(), "t", "u", "b")
    assert set(result["u"].outputs["trained"]["weights"]) == {"denoiser"}
    stays = load_part(result["b"].outputs["CLIP"], "text.l", torch.float32).state_dict()
    trained = result["t"].outputs["trained"]["weights"]["text.l"]
    assert all(torch.equal(stays[name], weight) for name, weight in trained.items())


def test_captions_encoded_in_each_step_and_before_teach_a_denoiser_the_same(settings, tmp_path):
    """`train_text_encoder` off computes what a data set with conditionings computes."""
    now = wanted(then={"caption_dropout": 0.5}).to_json()
    before = wanted(then={"caption_dropout": 0.5}).to_json()
    before["e"] = {"class_type": "TrainingFolder", "inputs": {**before["d"]["inputs"], "clip": ["a", 1]}}
    before["u"]["inputs"]["training_set"] = ["e", 0]
    del before["u"]["inputs"]["clip"]
    found = [run(settings, tmp_path / "c", document, "u")["u"].outputs["trained"] for document in (now, before)]
    first, second = (one["weights"]["denoiser"] for one in found)
    assert first.keys() == second.keys()
    assert all(torch.allclose(first[name], second[name], atol=1e-6) for name in first)


def test_both_text_encoders_of_sdxl_learn(settings, tmp_path):
    loader = ("CheckpointLoaderSimple", {"ckpt_name": "sdxl.safetensors"})
    trained = run(settings, tmp_path / "c", wanted(loader, steps=2), "t")["t"].outputs["trained"]
    assert set(trained["weights"]) == {"text.l", "text.g"}


def test_what_cannot_be_learnt_from_is_said_by_name(settings, tmp_path):
    document = wanted().to_json()
    document["e"] = {"class_type": "VAEEncode", "inputs": {"pixels": ["i", 0], "vae": ["m", 2]}}
    document["i"] = {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64}}
    document["d"] = {"class_type": "TrainingExample", "inputs": {"samples": ["e", 0], "name": "plain", "repeats": 2}}
    assert "plain for one" in wrong(settings, tmp_path / "a", document)
    document = wanted().to_json()
    document["x"] = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sdxl.safetensors"}}
    document["t"]["inputs"]["clip"] = ["x", 1]
    assert "clip: " in wrong(settings, tmp_path / "b", document)
    assert "batch of 9" in wrong(settings, tmp_path / "c", wanted(batch_size=9))
