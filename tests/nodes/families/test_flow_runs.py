"""Z-Image and Lumina 2 from files to images: the shipped workflows on small models in the real key layout."""

import json
import os
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from threading import Event

import pytest
import torch
from diffusers import AutoencoderKL
from graphflow_nodes.devices.use import open_device
from graphflow_nodes.devices.vae import decode, encode
from graphflow_nodes.families.opened import open_vae
from safetensors.torch import load_file, save_file

import graphflow as gf

from . import tiny_flow as t

WORKFLOWS = Path(__file__).parents[3] / "workflows"
FAMILIES = ["z_image", "lumina2"]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    models = tmp_path_factory.mktemp("flow") / "models"
    for name in t.FILES:
        t.save(models, name)
    for family in FAMILIES:
        (models / "checkpoints").mkdir(exist_ok=True)
        save_file(t.checkpoint(family), models / "checkpoints" / f"{family}.safetensors")
        t.save_folder(models / "checkpoints" / f"{family}_folder", family)
    return models


def workflow(family, **changes):
    made = gf.Workflow.load(WORKFLOWS / f"{family}.json").set("5.width", 64).set("5.height", 64).set("8.steps", 3)
    for where, value in changes.items():
        made = made.set(where.replace("__", "."), value)
    return made


def from_checkpoint(family, name):
    nodes = workflow(family).to_json()
    for key in ("1", "2", "3"):
        del nodes[key]
    nodes["c"] = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": name}}
    places = {"1": ["c", 0], "2": ["c", 1], "3": ["c", 2]}
    for node in nodes.values():
        node["inputs"] = {
            key: places.get(value[0], value) if isinstance(value, list) else value
            for key, value in node["inputs"].items()
        }
    return gf.Workflow.from_json(nodes)


def run(models, made, targets=("8", "9"), cache=None, **settings):
    stated = gf.Settings(models=(models,), output_dir=models.parent, temp_dir=models.parent, **settings)
    with gf.Engine(settings=stated, cache=cache or gf.Cache(memory=0)) as engine:
        assert engine.validate(made) == []
        return engine.run(made, targets=list(targets) if targets else None)


@pytest.mark.parametrize("family", FAMILIES)
def test_separate_files_a_checkpoint_and_a_folder_give_the_same_image(family, models):
    found = run(models, workflow(family))
    image = found["9"].outputs["IMAGE"]
    assert image.shape == (1, 64, 64, 3) and image.isfinite().all() and image.std() > 0.01
    for name in (f"{family}.safetensors", f"{family}_folder"):
        other = run(models, from_checkpoint(family, name))
        assert torch.equal(other["9"].outputs["IMAGE"], image), name


@pytest.mark.parametrize("family", FAMILIES)
def test_the_sampler_is_diffusers_network_under_euler(family, models):
    changes = {"8__sampler_name": "euler", "8__cfg": 1.0, "8__seed": 7}
    found = run(models, workflow(family, **changes), targets=("6", "8"))
    ((text, _),) = found["6"].outputs["CONDITIONING"]
    shift = workflow(family).to_json()["4"]["inputs"]["shift"]
    times = torch.tensor([1.0, 1 - 333 / 1000, 1 - 666 / 1000, 0.0])
    sigmas = shift * times / (1 + (shift - 1) * times)
    x = torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(7))
    module = t.DENOISERS[family]()
    for sigma, lower in pairwise(sigmas):
        time = (1 - sigma)[None]
        with torch.no_grad():
            if family == "z_image":
                out = module([x[0][:, None]], time, [text[0]], return_dict=False)[0][0][None, :, 0]
            else:
                out = module(x, time, text, torch.ones(text.shape[:2], dtype=torch.bool), return_dict=False)[0]
        x = x + (lower - sigma) * -out
    latent = x / 0.3611 + 0.1159
    found = found["8"].outputs["LATENT"]["samples"]
    assert (found - latent).abs().max() < 1e-4 * latent.std()


def test_the_vae_of_16_channels_is_that_of_diffusers(models, tmp_path):
    with gf.Engine(settings=gf.Settings(device="cpu")) as engine:
        vae, device = open_vae(models / "vae" / "ae.safetensors", engine.settings), open_device(engine.settings)
    own: AutoencoderKL = t.vae()
    image = torch.rand(1, 32, 48, 3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        want = own.encode(image.movedim(-1, 1) * 2 - 1).latent_dist.mean
        drawn = (own.decode(want).sample / 2 + 0.5).clamp(0, 1).movedim(1, -1)
    latent = encode(device, vae, image)
    assert latent.shape == (1, 16, 4, 6) and torch.allclose(latent, want, atol=1e-5)
    assert torch.allclose(decode(device, vae, want), drawn, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_bfloat16_draws_nearly_the_same_image(family, models):
    exact = run(models, workflow(family))["9"].outputs["IMAGE"]
    result = run(models, workflow(family), dtype="bfloat16")
    found = result["9"].outputs["IMAGE"]
    assert not torch.equal(found, exact) and (found - exact).abs().mean() < 0.05
    assert {event.format for event in result.models if event.part != "vae"} == {"bfloat16"}


LORAS = {
    "z_image": {"diffusion_model": "layers.0.attention.qkv", "transformer": "layers.1.attention.to_q"},
    "lumina2": {"diffusion_model": "layers.0.attention.qkv", "transformer": "layers.1.attn.to_q"},
}
"""Names that trainers write: those of the original code, and those of diffusers."""


@pytest.mark.parametrize("family", FAMILIES)
def test_a_lora_by_either_names_adds_its_product_to_the_weights(family, models, tmp_path):
    own, fused = t.DENOISERS[family]().state_dict(), t.original(t.DENOISERS[family]())
    changes = {}
    for prefix, module in LORAS[family].items():
        rows, columns = (fused if prefix == "diffusion_model" else own)[f"{module}.weight"].shape
        numbers = torch.Generator().manual_seed(len(changes))
        changes[f"{prefix}.{module}.lora_A.weight"] = torch.randn(2, columns, generator=numbers) / 10
        changes[f"{prefix}.{module}.lora_B.weight"] = torch.randn(rows, 2, generator=numbers) / 10
    (tmp_path / "models" / "loras").mkdir(parents=True)
    save_file(changes, tmp_path / "models" / "loras" / "lora.safetensors")
    nodes = workflow(family).to_json()
    name = nodes["1"]["inputs"]["unet_name"]
    nodes["l"] = {"class_type": "LoraLoaderModelOnly", "inputs": {"model": ["1", 0], "lora_name": "lora.safetensors"}}
    nodes["4"]["inputs"]["model"] = ["l", 0]
    settings = {"models": (models, tmp_path / "models"), "output_dir": tmp_path, "temp_dir": tmp_path}
    with gf.Engine(settings=gf.Settings(**settings), cache=gf.Cache(memory=0)) as engine:
        found = engine.run(gf.Workflow.from_json(nodes), targets=["8"])["8"].outputs["LATENT"]["samples"]
    # The same changes made to the weights of the file.
    other = tmp_path / "merged" / "diffusion_models" / name
    other.parent.mkdir(parents=True)
    for prefix, module in LORAS[family].items():
        delta = changes[f"{prefix}.{module}.lora_B.weight"] @ changes[f"{prefix}.{module}.lora_A.weight"]
        if prefix == "transformer":  # the first rows of the fused tensor
            module = module.replace("attn", "attention").replace("to_q", "qkv")
            delta = torch.nn.functional.pad(delta, (0, 0, 0, len(fused[f"{module}.weight"]) - len(delta)))
        fused[f"{module}.weight"] = fused[f"{module}.weight"].float() + delta
    save_file(fused, other)
    with gf.Engine(
        settings=gf.Settings(**{**settings, "models": (tmp_path / "merged", models)}), cache=gf.Cache(memory=0)
    ) as engine:
        want = engine.run(workflow(family), targets=["8"])["8"].outputs["LATENT"]["samples"]
    plain = run(models, workflow(family))["8"].outputs["LATENT"]["samples"]
    assert (found - want).abs().max() < 1e-3 * want.std() < (found - plain).abs().max()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_denoiser_is_saved_in_the_original_layout(family, models, tmp_path):
    nodes = {
        "1": workflow(family).to_json()["1"],
        "2": {"class_type": "ModelSave", "inputs": {"model": ["1", 0], "filename_prefix": "mine"}},
    }
    settings = gf.Settings(models=(models,), output_dir=tmp_path, temp_dir=tmp_path)
    with gf.Engine(settings=settings) as engine:
        engine.run(gf.Workflow.from_json(nodes))
    (path,) = tmp_path.rglob("mine*.safetensors")
    want = t.prefixed("model.diffusion_model.", t.original(t.DENOISERS[family]()))
    del want["model.diffusion_model.norm_final.weight"]
    have = load_file(path)
    assert have.keys() == want.keys() and all(torch.equal(have[name].half(), want[name]) for name in want)


@pytest.mark.parametrize("family", FAMILIES)
def test_another_seed_loads_no_text_encoder(family, models, tmp_path):
    cache = gf.Cache(tmp_path / "cache")
    first = run(models, workflow(family), cache=cache)
    assert {event.part for event in first.models} >= {f"text.{'qwen3' if family == 'z_image' else 'gemma2'}"}
    second = run(models, workflow(family, **{"8__seed": 9}), cache=gf.Cache(tmp_path / "cache"))
    assert {event.part for event in second.models} == {"denoiser", "vae"}


@pytest.mark.parametrize("family", FAMILIES)
def test_samplers_that_share_passes_draw_what_they_draw_alone(family, models):
    nodes = workflow(family, **{"8__cfg": 4.0}).to_json()
    if family == "z_image":
        nodes["7"] = {"class_type": "CLIPTextEncode", "inputs": {"text": "blurry", "clip": ["2", 0]}}
    other = json.loads(json.dumps(nodes["8"]))
    other["inputs"] |= {"seed": 5, "sampler_name": "euler", "steps": 4}
    both = gf.Workflow.from_json({**nodes, "18": other})
    shared = run(models, both, targets=("8", "18"), together=2)
    for node in ("8", "18"):
        alone = run(models, both, targets=(node,), together=2)
        assert torch.equal(alone[node].outputs["LATENT"]["samples"], shared[node].outputs["LATENT"]["samples"])


def killed(path, models, folder):
    """A run in a process of its own, which is killed in its sampler."""
    words = ("run", path, "--json", "--checkpoint-every", "0", "--models", models)
    folders = ("--cache-dir", folder / "cache", "--output-dir", folder / "output")
    command = [sys.executable, "-m", "graphflow", *map(str, (*words, *folders))]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder)
    for line in running.stdout:
        if json.loads(line).get("step", 0) >= 2:
            os.kill(running.pid, signal.SIGKILL)
            break
    assert running.wait() == -signal.SIGKILL


def stopped(path, models, folder):
    """The same in this process: what it keeps is what a killed one leaves."""
    settings = gf.Settings(models=(models,), output_dir=folder / "output", checkpoint_every=0.0)
    stop = Event()

    def note(event):
        if isinstance(event, gf.Progress) and event.node == "8" and event.step >= 2:
            stop.set()

    with gf.Engine(settings=settings, cache=gf.Cache(folder / "cache")) as engine, pytest.raises(gf.Cancelled):
        engine.run(gf.Workflow.load(path), on_event=note, cancel=stop)


@pytest.mark.parametrize(("family", "end"), [("z_image", killed), ("lumina2", stopped)], ids=FAMILIES)
def test_a_run_killed_in_the_sampler_goes_on_to_the_same_bits(family, end, models, tmp_path):
    nodes = workflow(family, **{"8__steps": 16, "8__sampler_name": "res_multistep"}).to_json()
    nodes = {key: node for key, node in nodes.items() if key not in ("3", "9", "10")}
    nodes["s"] = {"class_type": "SaveLatent", "inputs": {"samples": ["8", 0]}}
    path = tmp_path / "workflow.json"
    path.write_text(json.dumps(nodes))
    end(path, models, tmp_path)

    def latent(cache, steps):
        settings = gf.Settings(models=(models,), output_dir=tmp_path / "output")
        with gf.Engine(settings=settings, cache=cache) as engine:
            heard = [].append if steps is None else steps.append
            result = engine.run(gf.Workflow.load(path), on_event=heard)
        return load_file(result["SaveLatent"].ui["latents"][0]["path"])["latent_tensor"]

    steps = []
    resumed = latent(gf.Cache(tmp_path / "cache"), steps)
    done = [event.step for event in steps if isinstance(event, gf.events.Progress)]
    assert 2 <= done[0] < 16 and done[-1] == 16
    assert torch.equal(resumed, latent(gf.Cache(memory=0), None))
