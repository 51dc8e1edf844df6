"""LoRA files on small models of the layouts that users have: names of all trainers, counts, bits, bad files."""

import json

import pytest
import torch
from graphflow_nodes.devices.pool import Pool
from graphflow_nodes.families.opened import open_model
from graphflow_nodes.files import load
from graphflow_nodes.files.tensors import TensorReader
from graphflow_nodes.patches.lora import Lora, LoraFile, fit_to
from safetensors.torch import load_file, save_file

import graphflow as gf
from graphflow.events import Text
from tests.nodes.families import tiny

Q = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
Q_LDM = "input_blocks.1.1.transformer_blocks.0.attn1.to_q"
OUT = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0"


def pair(out, into, rank=4, salt=0):
    drawn = torch.Generator().manual_seed(rank + salt)
    return torch.randn(out, rank, generator=drawn) / rank, torch.randn(rank, into, generator=drawn) / into**0.5


def kohya(module, out, into, **more):
    up, down = pair(out, into, **more)
    return {f"{module}.lora_up.weight": up, f"{module}.lora_down.weight": down, f"{module}.alpha": torch.tensor(2.0)}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder with small models of three families."""
    folder = tmp_path_factory.mktemp("loras") / "models"
    for name in ("sd1", "sd2", "sdxl"):
        tiny.tiny(name).save(folder / "checkpoints" / f"{name}.safetensors")
    (folder / "loras").mkdir()
    return folder


@pytest.fixture(scope="module")
def engine(models, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    with gf.Engine(settings=gf.Settings(models=(models,), device="cpu", output_dir=out)) as engine:
        yield engine


@pytest.fixture
def opened(models, engine):
    return lambda name: open_model(models / "checkpoints" / f"{name}.safetensors", engine.settings)


@pytest.fixture
def lora(models):
    def write(tensors, name="one"):
        path = models / "loras" / f"{name}.safetensors"
        save_file(tensors, path)
        return LoraFile(
            str(path), f"{name} {sorted(tensors)} {sum(float(one.float().sum()) for one in tensors.values())}"
        )

    return write


def fits(lora, opened, tensors, family="sd1"):
    model = opened(family)
    return fit_to(lora(tensors), model.model, model.clip)


@pytest.mark.parametrize(
    "module",
    [
        "lora_unet_" + Q.replace(".", "_"),
        "lora_unet_" + Q_LDM.replace(".", "_"),
        "unet." + Q,
        "diffusion_model." + Q_LDM,
        "base_model.model." + Q,
        "model.diffusion_model." + Q_LDM,
        "lycoris_" + Q.replace(".", "_"),
        Q,
    ],
)
def test_every_trainers_name_of_a_module_is_known(module, lora, opened):
    (match,) = fits(lora, opened, kohya(module, 32, 32)).matches
    assert (match.part, [place.module for place in match.places]) == ("denoiser", [Q])


@pytest.mark.parametrize(
    "ending",
    [
        ("lora_up.weight", "lora_down.weight"),
        ("lora_B.weight", "lora_A.weight"),
        ("lora_B.default.weight", "lora_A.default.weight"),
        ("lora_B", "lora_A"),
        ("lora.up.weight", "lora.down.weight"),
        ("lora_linear_layer.up.weight", "lora_linear_layer.down.weight"),
    ],
)
def test_every_trainers_name_of_a_tensor_is_known(ending, lora, opened):
    up, down = pair(32, 32)
    (match,) = fits(lora, opened, {f"unet.{Q}.{ending[0]}": up, f"unet.{Q}.{ending[1]}": down}).matches
    assert {role for role, _ in match.roles} == {"up", "down"}


def test_the_processors_of_old_diffusers_files_are_known(lora, opened):
    up, down = pair(32, 32)
    base = "unet." + Q.removesuffix(".to_q") + ".processor."
    tensors = {
        base + f"{name}_lora.{kind}.weight": one.clone()
        for name in ("to_q", "to_out")
        for kind, one in (("up", up), ("down", down))
    }
    found = fits(lora, opened, tensors)
    assert sorted(match.places[0].module for match in found.matches) == [OUT, Q]


@pytest.mark.parametrize(
    ("family", "prefix", "part"),
    [
        ("sd1", "lora_te_", "text.l"),
        ("sd2", "lora_te_", "text.h"),
        ("sdxl", "lora_te1_", "text.l"),
        ("sdxl", "lora_te2_", "text.g"),
        ("sdxl", "text_encoder_2.", "text.g"),
        ("sd1", "text_encoder.", "text.l"),
        ("sdxl", "text_encoders.clip_g.transformer.", "text.g"),
    ],
)
def test_the_text_encoders_of_every_family_are_known(family, prefix, part, lora, opened):
    name = "text_model.encoder.layers.3.self_attn.k_proj"
    module = prefix + (name.replace(".", "_") if prefix.endswith("_") else name)
    (match,) = fits(lora, opened, kohya(module, 64, 64), family).matches
    assert match.part == part
    assert match.places[0].module.endswith("encoder.layers.3.self_attn.k_proj")


def test_a_fused_weight_of_a_file_changes_each_of_its_thirds(lora, opened):
    """OpenCLIP holds q, k and v in one tensor; transformers in three."""
    tensors = kohya("lora_te_transformer_resblocks_0_attn_in_proj", 192, 64)
    found = fits(lora, opened, tensors, "sd2")
    places = {place.rows: place.module.rpartition(".")[2] for place in found.matches[0].places}
    assert places == {(0, 64): "q_proj", (64, 128): "k_proj", (128, 192): "v_proj"}


def test_what_does_not_fit_is_counted_and_named(lora, opened):
    tensors = kohya("lora_unet_" + Q.replace(".", "_"), 32, 32) | kohya(
        "lora_unet_double_blocks_0_img_attn_qkv", 96, 32
    )
    tensors |= kohya("lora_unet_" + OUT.replace(".", "_"), 48, 48)
    found = fits(lora, opened, tensors)
    assert (len(found.matches), found.total) == (1, 3)
    assert found.unknown == ("lora_unet_double_blocks_0_img_attn_qkv",)
    assert found.misshapen == (
        "lora_unet_" + OUT.replace(".", "_") + " is for a weight [48, 48], the model has [32, 32]",
    )


def bits(part):
    return {name: weight.numpy().tobytes() for name, weight in part.module.state_dict().items()}


def test_a_then_with_a_lora_then_a_again_has_the_bits_of_a_and_a_new_strength_reads_no_file(lora, opened, monkeypatch):
    model = opened("sd1").model
    file = lora(kohya("lora_unet_" + Q.replace(".", "_"), 32, 32))
    matches = fit_to(file, model).matches
    pool = Pool("cpu", load)

    def used(handle):
        with pool.use(handle, "denoiser", torch.float32) as part:
            return bits(part)

    plain = used(model)
    first = used(model.with_patch(Lora(file, 0.5, matches)))
    read = []
    stored = TensorReader.stored
    monkeypatch.setattr(TensorReader, "stored", lambda self, name: read.append(name) or stored(self, name))
    second = used(model.with_patch(Lora(file, 1.0, matches)))
    again = used(model)
    assert read == []
    assert again == plain
    assert {name for name in plain if plain[name] != first[name]} == {f"{Q}.weight"}
    assert second[f"{Q}.weight"] not in (plain[f"{Q}.weight"], first[f"{Q}.weight"])
    pool.free_some()
    assert used(model.with_patch(Lora(file, 1.0, matches))) == second, "merged from the file the bits are the same"


def workflow(family, *loras, kind="LoraLoader", **more):
    nodes = {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": f"{family}.safetensors"}},
        "2": {"class_type": "EmptyLatentImage", "inputs": {"width": 32, "height": 32, "batch_size": 1}},
    }
    model, clip = ["1", 0], ["1", 1]
    for number, (name, strength) in enumerate(loras):
        key = f"lora{number}"
        inputs = {
            "model": model,
            "clip": clip,
            "lora_name": f"{name}.safetensors",
            "strength_model": strength,
            "strength_clip": strength,
        }
        nodes[key] = {"class_type": kind, "inputs": inputs}
        model, clip = [key, 0], [key, 1]
    nodes |= {
        "p": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat", "clip": clip}},
        "n": {"class_type": "CLIPTextEncode", "inputs": {"text": "", "clip": clip}},
        "k": {
            "class_type": "KSampler",
            "inputs": {
                "model": model,
                "positive": ["p", 0],
                "negative": ["n", 0],
                "latent_image": ["2", 0],
                "seed": 1,
                "steps": 2,
                "cfg": 3.0,
                "sampler_name": "euler",
                "scheduler": "normal",
                "denoise": 1.0,
                **more,
            },
        },
        "s": {"class_type": "SaveLatent", "inputs": {"samples": ["k", 0], "filename_prefix": "x"}},
    }
    return gf.Workflow.from_json(nodes)


def latent_of(result):
    (path,) = result["s"].paths
    return load_file(path)["latent_tensor"]


UNET_KEYS = kohya("lora_unet_" + Q.replace(".", "_"), 32, 32)


def test_a_lora_of_another_family_is_refused_with_its_family(lora, engine):
    tensors = {}
    for block in range(2):
        tensors |= kohya(f"lora_unet_double_blocks_{block}_img_attn_qkv", 9216, 3072)
    lora(tensors, "flux")
    with pytest.raises(gf.GraphFlowError) as caught:
        engine.run(workflow("sd1", ("flux", 1.0)))
    (problem,) = caught.value.problems
    assert problem.code == "lora_does_not_fit" and problem.node == "lora0" and problem.input == "lora_name"
    assert "0 of 2 modules of flux.safetensors fit: this file is for FLUX.1" in problem.message, problem.message


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (
            lambda one: {
                key: value[..., :0, :]
                if key.endswith("down.weight")
                else value[:, :0]
                if key.endswith("up.weight")
                else value
                for key, value in one.items()
            },
            "lora_does_not_fit",
            "has rank 0",
        ),
        (
            lambda one: {
                key: torch.full_like(value, torch.nan) if key.endswith("up.weight") else value
                for key, value in one.items()
            },
            "damaged_lora",
            "not numbers",
        ),
        (
            lambda one: {
                key: value[:, :16].contiguous() if key.endswith("down.weight") else value for key, value in one.items()
            },
            "lora_does_not_fit",
            "is for a weight [32, 16], the model has [32, 32]",
        ),
        (
            lambda one: {key: value for key, value in one.items() if not key.endswith("up.weight")},
            "lora_does_not_fit",
            "has only alpha, down",
        ),
    ],
    ids=["rank 0", "NaN", "another width", "half of it"],
)
def test_a_bad_file_is_refused_at_its_node(change, code, words, lora, engine):
    lora({key: value.contiguous() for key, value in change(UNET_KEYS).items()}, "bad")
    with pytest.raises(gf.GraphFlowError) as caught:
        engine.run(workflow("sd1", ("bad", 1.0)))
    (problem,) = caught.value.problems
    assert (problem.code, problem.node) == (code, "lora0")
    assert words in problem.message


def test_a_file_that_is_not_a_lora_is_refused_before_the_run(models, engine):
    tiny.tiny("sd1").save(models / "loras" / "whole.safetensors")
    problems = [problem for problem in engine.validate(workflow("sd1", ("whole", 1.0))) if problem.code == "wrong_file"]
    assert [problem.node for problem in problems] == ["lora0"]


def test_events_and_results_state_what_each_file_did(lora, engine):
    lora(
        UNET_KEYS | kohya("lora_te_text_model_encoder_layers_0_mlp_fc1", 128, 64) | kohya("lora_unet_other", 8, 8),
        "some",
    )
    events = []
    result = engine.run(workflow("sd1", ("some", 0.75)), on_event=events.append)
    denoiser = next(event for event in result.models if event.part == "denoiser")
    (patch,) = denoiser.patches
    assert (patch.file, patch.strength, patch.form, patch.here, patch.modules) == (
        "some.safetensors",
        0.75,
        "merged",
        1,
        3,
    )
    assert json.loads(json.dumps(denoiser.to_json()))["patches"][0]["file"] == "some.safetensors"
    (warning,) = [event.text for event in events if isinstance(event, Text) and "Warning" in event.text]
    assert "some.safetensors: 2 of 3 modules fit Stable Diffusion 1.x: lora_unet_other is not in it" in warning
