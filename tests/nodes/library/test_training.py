"""Training as nodes: what is learnt, that a stop changes no bit, and what is refused."""

import pytest
import torch
from safetensors.torch import load_file

import graphflow as gf
from tests.graphs import graph
from tests.nodes.architectures import write_architecture
from tests.nodes.library.training_runs import draw_things, run, settings_of, steps_of, stopped, wrong

STEPS, RANK = 6, 2


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    root = tmp_path_factory.mktemp("lora")
    drawn = (((64, 64), "red", "thing 0"), ((96, 48), "blue", "thing 1"), ((64, 64), "lime", "thing 2"))
    draw_things(root / "input" / "things", drawn, (8, 8, 30, 30))
    return root


@pytest.fixture
def settings(places, tmp_path):
    return settings_of(places, tmp_path)


def wanted(**options):
    stated = {"steps": STEPS, "batch_size": 2, "rank": RANK, "alpha": float(RANK), "learning_rate": 1e-2, **options}
    folder = {"vae": "@m:2", "clip": "@m:1", "folder": "things", "resolution": 64, "bucket_step": 16}
    return graph(
        m=("CheckpointLoaderSimple", {"ckpt_name": "graphflow-tiny"}),
        d=("TrainingFolder", folder),
        t=("TrainLora", {"model": "@m", "training_set": "@d", **stated}),
        s=("SaveLora", {"lora": "@t", "filename_prefix": "x", "save_dtype": "float32"}),
        f=("SaveLora", {"lora": "@t", "filename_prefix": "y", "save_dtype": "float32", "names": "diffusers"}),
    )


def trained(settings, folder, workflow, node="t"):
    return run(settings, folder, workflow, node)[node].outputs


def bits(lora):
    return {
        f"{name}.{role}": one.numpy().tobytes() for name, layer in lora["layers"].items() for role, one in layer.items()
    }


@pytest.mark.parametrize(
    ("optimizer", "algorithm"), [("AdamW", "LoRA"), ("Adafactor", "LoKr"), ("Lion", "LoRA"), ("Prodigy", "DoRA")]
)
def test_a_training_that_was_stopped_ends_with_the_same_bits(settings, tmp_path, optimizer, algorithm):
    if optimizer == "Prodigy":
        pytest.importorskip("prodigyopt", reason="Prodigy is not installed: pip install '.[training]'")
    workflow = wanted(
        optimizer=optimizer,
        algorithm=algorithm,
        ema_decay=0.9,
        caption_dropout=0.3,
        noise_offset=0.1,
        gradient_accumulation_steps=2,
        lr_scheduler="cosine",
        lr_warmup_steps=2,
        snr_gamma=5.0,
        learning_rate=1e-3,
    )
    whole = trained(settings, tmp_path / "whole", workflow)
    for at in (1, 5) if optimizer == "AdamW" else (3,):
        folder = tmp_path / f"cut{at}"
        assert stopped(settings, folder, workflow, at)[-1] == at
        events = []
        result = run(settings, folder, workflow, "t", on_event=events.append)
        assert steps_of(events)[0] >= at - 1, "it goes on from where it was"
        assert bits(result["t"].outputs["lora"]) == bits(whole["lora"])
        assert result["t"].outputs["losses"] == whole["losses"]


def test_a_training_in_two_parts_is_the_training_as_a_whole(settings, tmp_path):
    whole = trained(settings, tmp_path / "a", wanted())
    parts = wanted(steps=4).to_json()
    parts["u"] = {"class_type": "TrainLora", "inputs": {**parts["t"]["inputs"], "steps": 2, "state": ["t", 2]}}
    found = trained(settings, tmp_path / "b", gf.Workflow.from_json(parts), "u")
    assert bits(found["lora"]) == bits(whole["lora"]) and found["losses"] == whole["losses"]


def test_a_training_lowers_the_loss_at_fixed_noise_and_its_file_acts_as_it_does(settings, tmp_path):
    document = wanted(steps=30, validate_every=30, learning_rate=5e-3).to_json()
    document["t"]["inputs"]["validation_set"] = ["d", 0]
    document["w"] = {"class_type": "TrainLora", "inputs": {**document["t"]["inputs"], "steps": 1, "validate_every": 1}}
    document["w"]["inputs"]["learning_rate"] = 0.0
    document["a"] = {"class_type": "ApplyLora", "inputs": {"model": ["m", 0], "lora": ["t", 0]}}
    document["p"] = {"class_type": "CLIPTextEncode", "inputs": {"text": "thing 1", "clip": ["m", 1]}}
    document["e"] = {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64}}
    sampler = {"model": ["a", 0], "positive": ["p", 0], "negative": ["p", 0], "latent_image": ["e", 0], "steps": 2}
    document["k"] = {
        "class_type": "KSampler",
        "inputs": {**sampler, "cfg": 1.0, "sampler_name": "euler", "scheduler": "normal"},
    }
    result = run(settings, tmp_path / "cache", document, "t", "w", "s", "f", "k")
    (_, after), (_, before) = (result[node].outputs["losses"]["validation"][0] for node in "tw")
    assert after < 0.9 * before
    kohya, diffusers = (result[node].paths[0] for node in "sf")
    models = tmp_path / "models" / "loras"
    models.mkdir(parents=True)
    applied = result["k"].outputs["LATENT"]["samples"]
    for path in (kohya, diffusers):
        (models / path.name).write_bytes(path.read_bytes())
        document["a"] = {"class_type": "LoraLoaderModelOnly", "inputs": {"model": ["m", 0], "lora_name": path.name}}
        places = gf.Settings(device="cpu", models=(tmp_path / "models",), output_dir=tmp_path)
        with gf.Engine(settings=places) as engine:
            loaded = engine.run(gf.Workflow.from_json(document), targets=["k"])["k"].outputs["LATENT"]["samples"]
        assert torch.allclose(loaded, applied, atol=1e-4), path.name
    ours, theirs = change_in_diffusers(diffusers), change_in_diffusers(kohya)
    assert ours.keys() == theirs.keys() == {f"unet.{layer}" for layer in result["t"].outputs["lora"]["layers"]}
    assert all(torch.allclose(ours[layer], theirs[layer], atol=1e-6) for layer in ours)


def test_a_trained_lora_that_does_not_fit_is_not_called_by_a_temporary_file(settings, tmp_path):
    from graphflow_nodes.patches.lora import check_fits, fit_to
    from graphflow_nodes.training.lora_file import stored_lora
    from graphflow_nodes.training.new_model import new_model

    file = stored_lora(trained(settings, tmp_path / "c", wanted(steps=1))["lora"], settings)
    other = new_model(write_architecture(tmp_path / "small"), 1, settings).model
    with pytest.raises(
        gf.GraphFlowError, match="modules of the trained LoRA fit: the model is Stable Diffusion"
    ) as caught:
        check_fits(file, fit_to(file, other), other.family, "lora")
    assert "safetensors" not in str(caught.value)


def change_in_diffusers(path):
    """What a file changes by diffusers' own reader of LoRAs: layer of the U-Net -> the change of its weight."""
    from diffusers import StableDiffusionPipeline

    found, alphas = StableDiffusionPipeline.lora_state_dict(load_file(path))
    assert all(float(alpha) == RANK for alpha in (alphas or {}).values()), "so that a change is up @ down"
    changes = {}
    for name, down in found.items():
        mended = name.replace(".processor.", ".").replace("to_out_lora", "to_out.0_lora").replace("_lora.", ".lora.")
        for mark in (".lora_A.", ".lora.down."):
            if mark in mended:
                up = found[name.replace("lora_A", "lora_B").replace("lora.down", "lora.up")]
                changes[mended.partition(mark)[0]] = up @ down
    return changes


def test_what_cannot_be_trained_is_refused_with_the_reason(settings, tmp_path):
    assert "batch_size: an epoch shows 3 images, which is less than a batch of 4" in wrong(
        settings, tmp_path / "a", wanted(batch_size=4)
    )
    assert "not a number at step" in wrong(
        settings,
        tmp_path / "b",
        wanted(learning_rate=10.0, optimizer="SGD", max_grad_norm=0.0, weight_decay=10.0, steps=60),
    )
    document = wanted(steps=2).to_json()
    document["u"] = {"class_type": "TrainLora", "inputs": {**document["t"]["inputs"], "rank": 3, "state": ["t", 2]}}
    document["t"], document["u"] = (
        {**document["u"], "inputs": {**document["u"]["inputs"], "state": ["u", 2]}},
        document["t"],
    )
    assert "state: the state is of a training of other weights" in wrong(
        settings, tmp_path / "c", gf.Workflow.from_json(document)
    )


def test_min_snr_weights_are_those_of_the_paper():
    from graphflow_nodes.model.prediction import X0, Epsilon, V
    from graphflow_nodes.training.objective import _SNR_WEIGHTS

    for snr in (0.01, 1.0, 5.0, 400.0):
        assert _SNR_WEIGHTS[Epsilon](snr, 5.0) == min(snr, 5) / snr
        assert _SNR_WEIGHTS[V](snr, 5.0) == min(snr, 5) / (snr + 1)
        assert _SNR_WEIGHTS[X0](snr, 5.0) == min(snr, 5)


def test_losses_are_plotted(settings, tmp_path):
    pytest.importorskip("matplotlib")
    document = wanted().to_json()
    document["g"] = {"class_type": "PlotLosses", "inputs": {"losses": ["t", 1]}}
    image = trained(settings, tmp_path / "x", gf.Workflow.from_json(document), "g")["IMAGE"]
    assert image.shape == (1, 480, 800, 3) and image.std() > 0.01
