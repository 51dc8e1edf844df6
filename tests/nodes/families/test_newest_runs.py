"""What every family has, for the newest: another model in between changes no bit, a run that was broken off goes on to
the same bits without its text encoder, and bad input is a problem at its node."""

import json
import signal
import subprocess
import sys
import textwrap
from threading import Event

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import graphflow as gf

from . import test_modern_runs, test_wan, tiny_flow, tiny_modern, tiny_wan

FAMILIES = ("wan", "fibo2", "joyimage")
SAMPLERS = {"wan": "12", "fibo2": "5", "joyimage": "10"}
ENCODERS = {"wan": "3", "fibo2": "2", "joyimage": "2"}
"""Nodes of the shipped workflows; the denoiser is node 1."""


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture(autouse=True)
def small_sizes(monkeypatch):
    monkeypatch.setattr("graphflow_nodes.library.joyimage.SIZES", [(64, 64)])


@pytest.fixture(scope="module")
def models(family, tmp_path_factory):
    models = tmp_path_factory.mktemp(family) / "models"
    text = json.dumps(workflow(family).to_json())
    for tiny in (tiny_modern, tiny_wan):
        for name in tiny.FILES:
            if f'"{name}"' in text and (tiny is tiny_wan) == (family == "wan"):
                tiny.save(models, name)
    Image.effect_noise((64, 64), 80).convert("RGB").save(models.parent / "picture.png")
    return models


def workflow(family, **changes):
    made = test_wan.shipped("image_to_video") if family == "wan" else test_modern_runs.workflow(family)
    for name, value in changes.items():
        made = made.set(name.replace("__", "."), value)
    return made


def settings_of(models, **more):
    here = models.parent
    return gf.Settings(models=(models,), output_dir=here, input_dir=here, temp_dir=here, device="cpu", **more)


def denoiser_of(models, family):
    return models / "diffusion_models" / workflow(family).to_json()["1"]["inputs"]["unet_name"]


def other_file(models, family, name, change):
    """The denoiser's file with other weights, under another name."""
    weights = {
        key: change(one) if one.is_floating_point() else one
        for key, one in load_file(denoiser_of(models, family)).items()
    }
    save_file(weights, models / "diffusion_models" / name)
    return name


def latent(result, key):
    return result[key].outputs["LATENT"]["samples"]


def test_another_model_in_between_changes_no_bit_and_nothing_is_read_again(family, models):
    key = SAMPLERS[family]
    other = other_file(models, family, "other.safetensors", lambda one: one * 0.9)
    made = workflow(family)
    with gf.Engine(settings=settings_of(models), cache=gf.Cache(memory=0)) as engine:
        first = engine.run(made, targets=[key])
        between = engine.run(made.set("1.unet_name", other), targets=[key])
        again = engine.run(made, targets=[key])
    assert torch.equal(latent(again, key), latent(first, key))
    assert not torch.equal(latent(between, key), latent(first, key))
    assert not [event for event in again.models if event.action == "loaded"]


def long(family):
    """A sampler of eight steps that keeps what it has seen before."""
    key = "11" if family == "wan" else SAMPLERS[family]
    changes = {"steps": 8, "sampler_name": "res_multistep", **({"end_at_step": 10000} if family == "wan" else {})}
    made = workflow(family)
    for name, value in changes.items():
        made = made.set(f"{key}.{name}", value)
    return made, key


KILLED = """
    import os, signal, sys, time
    from pathlib import Path
    import graphflow as gf

    path, models, cache, key = sys.argv[1:]

    def note(event):
        if isinstance(event, gf.Progress) and event.node == key and event.step == 3:
            until = time.monotonic() + 60
            while not list(Path(cache).glob("v*/checkpoints/*/*")) and time.monotonic() < until:
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)

    here = Path(models).parent
    settings = gf.Settings(
        models=(Path(models),), output_dir=here, input_dir=here, temp_dir=here, device="cpu", checkpoint_every=0.0
    )
    with gf.Engine(settings=settings, cache=gf.Cache(cache)) as engine:
        engine.run(gf.Workflow.load(path), targets=[key], on_event=note)
"""


def break_off(engine, made, key):
    """End the run behind the third step of a sampler."""
    stop = Event()

    def note(event):
        if isinstance(event, gf.Progress) and event.node == key and event.step == 3:
            stop.set()

    with engine, pytest.raises(gf.Cancelled):
        engine.run(made, targets=[key], on_event=note, cancel=stop)


def kill(folder, models, cache, made, key):
    """The same in a process of its own, which is killed there."""
    path = folder / "workflow.json"
    path.write_text(json.dumps(made.to_json()))
    command = [sys.executable, "-c", textwrap.dedent(KILLED), path, models, cache, key]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_a_run_that_was_broken_off_goes_on_to_the_same_bits(family, models, tmp_path):
    made, key = long(family)
    cache, steps = tmp_path / "cache", []
    settings = settings_of(models, checkpoint_every=0.0)
    if family == "wan":
        kill(tmp_path, models, cache, made, key)
    else:
        break_off(gf.Engine(settings=settings, cache=gf.Cache(cache)), made, key)

    def note(event):
        if isinstance(event, gf.Progress) and event.node == key:
            steps.append(event.step)

    with gf.Engine(settings=settings, cache=gf.Cache(cache)) as engine:
        resumed = engine.run(made, targets=[key], on_event=note)
    assert 2 <= steps[0] <= 5 and steps[-1] == 8
    assert not [event for event in resumed.models if event.part.startswith("text.")]
    with gf.Engine(settings=settings, cache=gf.Cache(memory=0)) as engine:
        assert torch.equal(latent(engine.run(made, targets=[key]), key), latent(resumed, key))


def test_bad_input_is_a_problem_at_its_node_before_the_run(family, models):
    tiny_flow.save(models, "gemma_2_2b_fp16.safetensors")
    folder = models / "diffusion_models"
    whole = denoiser_of(models, family).read_bytes()
    (folder / "cut.safetensors").write_bytes(whole[: len(whole) - 1000])
    (folder / "page.safetensors").write_bytes(b"<!doctype html><html></html>")
    vae = next((models / "vae").iterdir())
    (folder / "vae.safetensors").write_bytes(vae.read_bytes())
    with gf.Engine(settings=settings_of(models)) as engine:
        assert engine.validate(workflow(family)) == []
        for name, words in (("cut", "ends"), ("page", "web page"), ("vae", "VAE")):
            (problem, *_) = engine.validate(workflow(family, **{"1__unet_name": f"{name}.safetensors"}))
            assert (problem.node, problem.input) == ("1", "unet_name") and words in problem.message, problem
            assert problem.hint
        other = workflow(family, **{f"{ENCODERS[family]}__clip_name": "gemma_2_2b_fp16.safetensors"})
        found = {problem.code: problem for problem in engine.validate(other)}
        assert "wrong_encoder" in found and "wide" in found["wrong_encoder"].message, found


def test_weights_that_are_not_numbers_are_named_at_the_sampler(family, models):
    name = other_file(models, family, "nan.safetensors", lambda one: torch.full_like(one, torch.nan))
    with (
        gf.Engine(settings=settings_of(models), cache=gf.Cache(memory=0)) as engine,
        pytest.raises(gf.GraphFlowError) as error,
    ):
        engine.run(workflow(family, **{"1__unet_name": name}), targets=[SAMPLERS[family]])
    (problem,) = error.value.problems
    assert problem.code == "not_a_number" and problem.node == ("11" if family == "wan" else SAMPLERS[family])
