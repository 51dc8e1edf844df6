"""Whole models in training: new weights, what is learnt, that a stop changes no bit, and files that load again."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from diffusers import DDPMScheduler, StableDiffusionPipeline
from graphflow_nodes.families.opened import open_model
from graphflow_nodes.files.load import load_part

import graphflow as gf
from tests.graphs import graph
from tests.nodes.architectures import write_architecture
from tests.nodes.families import tiny
from tests.nodes.library.training_runs import draw_things, engine_of, run, settings_of, stopped, wrong


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    root = tmp_path_factory.mktemp("whole")
    write_architecture(root / "models" / "checkpoints" / "small")
    tiny.tiny("sd1").save(root / "models" / "checkpoints" / "sd1.safetensors")
    drawn = [((16, 16), colour, f"a {colour} thing") for colour in ("red", "blue", "lime")]
    draw_things(root / "input" / "things", drawn, (2, 2, 8, 8))
    return root


@pytest.fixture
def settings(places, tmp_path):
    return settings_of(places, tmp_path)


def wanted(name="small", with_text=True, **options):
    loader = ("NewModel", {"architecture": name, "seed": 3})
    if name != "small":
        loader = ("CheckpointLoaderSimple", {"ckpt_name": name})
    stated = {"steps": 6, "batch_size": 2, "learning_rate": 1e-3, **options}
    if with_text:
        stated["clip"] = "@m:1"
    size = 16 if name == "small" else 128
    folder = {"vae": "@m:2", "clip": "@m:1", "folder": "things", "resolution": size, "bucket_step": 8}
    sampler = {"model": "@a", "positive": "@p", "negative": "@p", "latent_image": "@e", "steps": 2, "cfg": 1.0}
    return graph(
        m=loader,
        d=("TrainingFolder", folder),
        t=("TrainTextToImage", {"model": "@m", "training_set": "@d", **stated}),
        a=("ApplyTrainedWeights", {"trained": "@t", "model": "@m", "clip": "@m:1", "vae": "@m:2"}),
        p=("CLIPTextEncode", {"text": "a red thing", "clip": "@a:1"}),
        e=("EmptyLatentImage", {"width": 16, "height": 16}),
        k=("KSampler", {**sampler, "sampler_name": "euler", "scheduler": "normal"}),
        f=("DiffusersSave", {"model": "@a", "clip": "@a:1", "vae": "@a:2", "filename_prefix": "made/f"}),
        c=("CheckpointSave", {"model": "@a", "clip": "@a:1", "vae": "@a:2", "filename_prefix": "made/c"}),
    )


def bits(trained):
    weights = trained["weights"]
    return {f"{part}/{name}": one.numpy().tobytes() for part in weights for name, one in weights[part].items()}


def test_a_new_model_is_a_function_of_its_seed_and_needs_no_weights(settings, places, tmp_path):
    from graphflow_nodes.training.new_model import new_model

    path = places / "models" / "checkpoints" / "small"
    first, again = (new_model(path, 1, one) for one in (settings, gf.Settings(device="cpu", temp_dir=tmp_path / "t2")))
    other = new_model(path, 2, settings)
    drawn = [load_part(one.model, "denoiser", torch.float32).state_dict() for one in (first, again, other)]
    assert all(torch.equal(drawn[0][name], drawn[1][name]) for name in drawn[0])
    assert not torch.equal(drawn[0]["conv_in.weight"], drawn[2]["conv_in.weight"])
    pipeline = StableDiffusionPipeline.from_pretrained(first.model.source("denoiser").path, local_files_only=True)
    assert torch.equal(pipeline.unet.state_dict()["conv_in.weight"], drawn[0]["conv_in.weight"])
    bound = (drawn[0]["conv_in.weight"].abs().max() * (4 * 9) ** 0.5).item()
    assert 0.9 < bound <= 1.0
    with pytest.raises(gf.GraphFlowError, match="no weights"), engine_of(settings, tmp_path / "c") as engine:
        engine.run(graph(m=("CheckpointLoaderSimple", {"ckpt_name": "small"})), targets=["m"])


def test_a_training_that_was_stopped_or_made_in_parts_ends_with_the_same_bits(settings, tmp_path):
    options = {"ema_decay": 0.9, "caption_dropout": 0.3, "prediction": "v_prediction", "snr_gamma": 5.0}
    workflow = wanted(**options)
    whole = run(settings, tmp_path / "whole", workflow, "t")["t"].outputs
    assert {name.partition("/")[0] for name in bits(whole["trained"])} == {"denoiser", "text.l"}
    stopped(settings, tmp_path / "cut", workflow, 3)
    found = run(settings, tmp_path / "cut", workflow, "t")["t"].outputs
    assert bits(found["trained"]) == bits(whole["trained"]) and found["losses"] == whole["losses"]
    parts = wanted(**options, steps=4).to_json()
    parts["u"] = {"class_type": "TrainTextToImage", "inputs": {**parts["t"]["inputs"], "steps": 2, "state": ["t", 2]}}
    found = run(settings, tmp_path / "parts", gf.Workflow.from_json(parts), "u")["u"].outputs
    assert bits(found["trained"]) == bits(whole["trained"])


def test_a_prompt_runs_between_the_steps_of_a_training_which_goes_on_where_it_was_paused(settings, tmp_path):
    reached, cancel, steps = threading.Event(), threading.Event(), []

    def listen(event):
        if isinstance(event, gf.Progress) and event.node == "t":
            steps.append(event.step)
            if event.step == 3:
                reached.set()

    long = wanted(steps=10_000_000)
    short = long.to_json()
    short["k"]["inputs"]["model"], short["p"]["inputs"]["clip"] = ["m", 0], ["m", 1]
    with engine_of(settings, tmp_path / "c") as engine, ThreadPoolExecutor(1) as pool:
        training = pool.submit(engine.run, long, targets=["t"], on_event=listen, cancel=cancel)
        assert reached.wait(60)
        latent = engine.run(gf.Workflow.from_json(short), targets=["k"])["k"].outputs["LATENT"]["samples"]
        assert bool(latent.isfinite().all()) and not training.done()
        cancel.set()
        assert isinstance(training.exception(60), gf.Cancelled)
    stopped_at, again = steps[-1], threading.Event()

    def first(event):
        if isinstance(event, gf.Progress) and event.node == "t":
            steps.append(event.step)
            again.set()

    with engine_of(settings, tmp_path / "c") as engine, pytest.raises(gf.Cancelled):
        engine.run(long, targets=["t"], on_event=first, cancel=again)
    assert stopped_at <= steps[-1] <= stopped_at + 1


@pytest.mark.parametrize("prediction", ["v_prediction", "flow"])
def test_what_is_learnt_is_saved_and_loads_here_and_in_diffusers(prediction, settings, tmp_path):
    document = wanted(prediction=prediction, steps=25, validate_every=25, learning_rate=5e-3).to_json()
    document["t"]["inputs"]["validation_set"] = ["d", 0]
    document["w"] = {"class_type": "TrainTextToImage", "inputs": {**document["t"]["inputs"], "steps": 1}}
    document["w"]["inputs"] |= {"learning_rate": 0.0, "validate_every": 1, "weight_decay": 0.0}
    result = run(settings, tmp_path / "c", gf.Workflow.from_json(document), "t", "w", "k", "f")
    (_, after), (_, before) = (result[node].outputs["losses"]["validation"][0] for node in "tw")
    assert after < 0.9 * before
    trained = result["t"].outputs["trained"]["weights"]
    (path,) = result["f"].paths
    again = open_model(path, settings)
    kinds = {"v_prediction": "V", "flow": "Flow"}
    assert type(again.model.prediction).__name__ == kinds[prediction]
    (settings.models[0] / "checkpoints" / f"again-{prediction}").symlink_to(path)
    document["a"] = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": f"again-{prediction}"}}
    loaded = run(settings, tmp_path / "d", gf.Workflow.from_json(document), "k")["k"].outputs["LATENT"]["samples"]
    assert torch.equal(loaded, result["k"].outputs["LATENT"]["samples"])
    pipeline = StableDiffusionPipeline.from_pretrained(path, local_files_only=True)
    for part, module in (("denoiser", pipeline.unet), ("text.l", pipeline.text_encoder)):
        theirs = module.state_dict()
        for name, weight in trained[part].items():
            known = name if name in theirs else f"text_model.{name}"
            assert torch.equal(theirs[known], weight), name
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline("a red thing", num_inference_steps=2, height=16, width=16, output_type="pt").images
    assert image.shape == (1, 3, 16, 16) and bool(image.isfinite().all())


def test_the_loss_is_that_of_diffusers_training_script(settings, places, tmp_path):
    """One step without change, in parts: what was asked and what counted is computed again by diffusers' classes."""
    from graphflow_nodes.training.examples import Example, TrainingSet
    from graphflow_nodes.training.new_model import new_model
    from graphflow_nodes.training.objective import Objective
    from graphflow_nodes.training.options import LossOptions
    from graphflow_nodes.training.randomness import normal, uniform
    from graphflow_nodes.training.trained import with_prediction

    opened = new_model(places / "models" / "checkpoints" / "small", 1, settings)
    module = load_part(opened.model, "denoiser", torch.float32)
    from graphflow_nodes.model.entry import Entry

    latent, text = normal((4, 8, 8), 0, "latent"), normal((77, 16), 0, "text")
    data = TrainingSet((Example("x", latent, Entry(text=text), 1),), None)
    place = ("step", 0, 1)
    time = int(uniform(5, "level", *place, "x") * 1000)
    noise = normal(latent.shape, 5, "noise", *place, "x")
    schedule = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    noised = schedule.add_noise(latent[None], noise[None], torch.tensor([time]))
    targets = {
        "epsilon": noise[None],
        "v_prediction": schedule.get_velocity(latent[None], noise[None], torch.tensor([time])),
    }
    for prediction, target in targets.items():
        model = with_prediction(opened.model, prediction)
        found = Objective(model, module, data, LossOptions(), 5, "cpu").sum([0], 0)
        theirs = torch.nn.functional.mse_loss(module(noised, time, text[None]).sample, target)
        assert torch.allclose(found, theirs, rtol=1e-4), prediction
    sigma = (int(uniform(5, "level", *place, "x") * 1000) + 1) / 1000
    found = Objective(with_prediction(opened.model, "flow"), module, data, LossOptions(), 5, "cpu").sum([0], 0)
    noised = (1 - sigma) * latent[None] + sigma * noise[None]
    answer = module(noised, torch.tensor(1000 * sigma), text[None]).sample
    assert torch.allclose(found, torch.nn.functional.mse_loss(answer, (noise - latent)[None]), rtol=1e-4)


def test_a_checkpoint_of_given_weights_is_written_as_one_file(settings, tmp_path):
    result = run(settings, tmp_path / "c", wanted("sd1.safetensors", with_text=False, steps=1), "t", "c")
    (path,) = result["c"].paths
    again = load_part(open_model(path, settings).model, "denoiser", torch.float32).state_dict()
    trained = result["t"].outputs["trained"]["weights"]
    assert trained.keys() == {"denoiser"}
    assert all(torch.equal(again[name], weight) for name, weight in trained["denoiser"].items())


def test_what_cannot_be_trained_or_applied_is_refused_with_the_reason(settings, tmp_path):
    document = wanted().to_json()
    document["x"] = {"class_type": "VAEEncode", "inputs": {"pixels": ["i", 0], "vae": ["m", 2]}}
    document["i"] = {"class_type": "EmptyImage", "inputs": {"width": 16, "height": 16}}
    document["y"] = {"class_type": "CLIPTextEncode", "inputs": {"text": "x", "clip": ["m", 1]}}
    document["d"] = {"class_type": "TrainingExample", "inputs": {"samples": ["x", 0], "conditioning": ["y", 0]}}
    document["t"]["inputs"]["batch_size"] = 1
    assert "training_set: 1 of 1 examples state no caption" in wrong(
        settings, tmp_path / "a", gf.Workflow.from_json(document)
    )
    document = wanted(steps=1).to_json()
    document["o"] = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd1.safetensors"}}
    document["a"]["inputs"]["model"] = ["o", 0]
    assert "trained weights of denoiser do not fit" in wrong(
        settings, tmp_path / "b", gf.Workflow.from_json(document), "a"
    )
    flux = graph(m=("NewModel", {"architecture": "nothing"}))
    assert "architecture" in wrong(settings, tmp_path / "c", flux, "m")


def test_a_new_model_may_have_a_vocabulary_of_its_captions(settings, tmp_path):
    stated = {"architecture": "small", "seed": 1}
    document = graph(m=("NewModel", {**stated, "captions_folder": "things", "vocab_size": 530})).to_json()
    clip = run(settings, tmp_path / "c", document, "m")["m"].outputs["CLIP"]
    own = run(settings, tmp_path / "c", graph(m=("NewModel", stated)), "m")["m"].outputs["CLIP"]
    assert 514 < clip.config["text.l"].vocab_size <= 530 < own.config["text.l"].vocab_size
    document["m"]["inputs"]["captions_folder"] = "nowhere"
    assert "captions_folder: there are no images in the folder 'nowhere'" in wrong(
        settings, tmp_path / "c", document, "m"
    )
