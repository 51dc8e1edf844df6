"""Hypernetworks: files as their trainers write them, and what they change in the attention of a U-Net."""

import pytest
import torch
from graphflow_nodes.families.known import identify
from graphflow_nodes.files.header import read_header
from graphflow_nodes.files.load import load_part
from graphflow_nodes.patches.hypernetwork import hypernetwork_of, widths_of
from torch import nn

import graphflow as gf
from tests.nodes.families import asking, tiny


def networks(width, activation=nn.ReLU, norm=True, last=False, hidden=None):
    """The two networks of a width; torch numbers the layers of a Sequential as files do."""
    made, hidden = [], hidden or 2 * width
    for seed in (width, width + 1):
        torch.manual_seed(seed)
        layers = [nn.Linear(width, hidden), *([activation()] if activation else [])]
        layers += [nn.LayerNorm(hidden)] * norm + [nn.Linear(hidden, width)]
        layers += [activation()] if last else []
        layers += [nn.LayerNorm(width)] * norm
        made.append(nn.Sequential(*layers).eval())
    return made


def file_of(pairs, **notes):
    states = {
        width: tuple({f"linear.{k}": v for k, v in n.state_dict().items()} for n in two) for width, two in pairs.items()
    }
    return {**states, "step": 100, "name": "style", "layer_structure": [1, 2, 1], "sd_checkpoint": None, **notes}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    models = tmp_path_factory.mktemp("hypernetworks") / "models"
    tiny.tiny("sd1").save(models / "checkpoints" / "sd1.safetensors")
    (models / "hypernetworks").mkdir()
    return models


@pytest.fixture(scope="module")
def model(models):
    return asking.model_in(models / "checkpoints" / "sd1.safetensors")


def test_keys_and_values_are_made_of_what_the_networks_give(models, model):
    """Against the projections, asked with the context as torch's own modules change it."""
    widths = sorted(widths_of(model.config.denoiser))
    pairs = {width: networks(width) for width in widths}
    path = models / "hypernetworks" / "style.pt"
    torch.save(file_of(pairs, activation_func="relu", is_layer_norm=True, activate_output=False), path)
    patch = hypernetwork_of(read_header(path), "digest", 0.5, model)
    module = load_part(model, "denoiser", torch.float32)
    seen = []
    for name, attention in module.named_modules():
        if name.endswith((".attn1", ".attn2")):
            for place, projection in enumerate((attention.to_k, attention.to_v)):
                width = projection.in_features
                context = asking.draw(2, 5, width)
                with torch.inference_mode():
                    want = projection(context + 0.5 * pairs[width][place](context))
                    plain = projection(context)
                    with patch.around(module):
                        got = projection(context)
                    assert torch.equal(projection(context), plain)
                torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)
                assert not torch.allclose(got, plain, atol=1e-4)
                seen.append(width)
    assert set(seen) == set(widths)


@pytest.mark.parametrize(
    ("activation", "notes", "last"),
    [
        (nn.Tanh, {"activation_func": "tanh", "activate_output": True}, True),
        (nn.Hardswish, {"activation_func": "swish", "activate_output": False}, False),
        (None, {}, False),
    ],
)
def test_activations_are_those_that_the_file_states(models, model, activation, notes, last):
    width = max(widths_of(model.config.denoiser))
    pair = networks(width, activation, norm=False, last=last)
    path = models / "hypernetworks" / "other.pt"
    torch.save(file_of({width: pair}, **notes), path)
    patch = hypernetwork_of(read_header(path), "digest", 1.0, model)
    x = asking.draw(3, width)
    for place, want in enumerate(pair):
        made = x
        for layer in patch.networks[width][place]:
            made = layer(made)
        torch.testing.assert_close(made, want(x), rtol=0, atol=1e-6)


def sampled(models, **inputs):
    nodes = {
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd1.safetensors"}},
        "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["4", 1], "text": "a red apple"}},
        "9": {"class_type": "HypernetworkLoader", "inputs": {"model": ["4", 0], **inputs}},
        "3": {
            "class_type": "KSampler",
            "inputs": {"model": ["9", 0], "positive": ["6", 0], "negative": ["6", 0], "latent_image": ["5", 0]},
        },
    }
    nodes["3"]["inputs"] |= {"steps": 2, "cfg": 2.0, "seed": 1, "sampler_name": "euler", "scheduler": "normal"}
    nodes["7"] = {"class_type": "PreviewAny", "inputs": {"source": ["3", 0]}}
    with gf.Engine(settings=gf.Settings(models=(models,), device="cpu"), cache=gf.Cache(memory=0)) as engine:
        return engine.run(gf.Workflow.from_json(nodes), targets=["3"])["3"].outputs["LATENT"]["samples"]


def test_a_sampler_asks_the_changed_model(models, model):
    path = models / "hypernetworks" / "style.pt"
    torch.save(file_of({width: networks(width) for width in widths_of(model.config.denoiser)}), path)
    plain, changed = (sampled(models, hypernetwork_name="style.pt", strength=by) for by in (0.0, 1.0))
    assert changed.isfinite().all() and not torch.equal(plain, changed)


def test_a_file_of_another_family_or_kind_is_refused(models, model):
    folder = models / "hypernetworks"
    torch.save(file_of({2048: networks(2048, norm=False, hidden=4)}), folder / "xl.pt")
    found = identify(read_header(folder / "xl.pt"))
    assert (found.kind, found.family, found.folder, found.supported) == ("hypernetwork", "sdxl", "hypernetworks", True)
    with pytest.raises(gf.GraphFlowError) as error:
        sampled(models, hypernetwork_name="xl.pt", strength=1.0)
    problem = error.value.problems[0]
    assert problem.code == "wrong_file" and "2048" in problem.message and problem.input == "hypernetwork_name"
    width = min(widths_of(model.config.denoiser))
    for broken, word in (
        ({width: networks(width), "other": torch.zeros(2)}, "'other'"),
        ({width: (networks(width)[0],)}, "keys or for values"),
    ):
        states = {k: tuple(n.state_dict() for n in v) if isinstance(v, (list, tuple)) else v for k, v in broken.items()}
        states[width] = tuple({f"linear.{k}": v for k, v in one.items()} for one in states[width])
        torch.save(states, folder / "broken.pt")
        with pytest.raises(gf.GraphFlowError, match=word):
            hypernetwork_of(read_header(folder / "broken.pt"), "d", 1.0, model)
    torch.save(file_of({width: networks(width)}, activation_func="wavelet"), folder / "odd.pt")
    with pytest.raises(gf.GraphFlowError, match="wavelet"):
        hypernetwork_of(read_header(folder / "odd.pt"), "d", 1.0, model)
