"""Model patches: from their files to what they add inside a transformer, and as nodes in a run."""

import pytest
import torch
from diffusers import ZImageControlNetModel
from graphflow_nodes.families.model_patches import open_model_patch
from graphflow_nodes.families.opened import open_model
from graphflow_nodes.families.z_image import network as z_image
from graphflow_nodes.files.load import load_part
from graphflow_nodes.model.entry import Ask, Control, Entry
from safetensors.torch import save_file

import graphflow as gf

from . import tiny, tiny_flow

CHANNELS = 16
SHAPE = (CHANNELS, 8, 8)


def fun(columns, refiner):
    """A small Fun ControlNet, without what is the model's."""
    places, layers = [0, 1], {"control_refiner_layers_places": [0], "n_refiner_layers": 1}
    module = ZImageControlNetModel(
        control_layers_places=places,
        control_in_dim=columns,
        add_control_noise_refiner=refiner,
        dim=96,
        n_heads=3,
        n_kv_heads=3,
        **layers,
    )
    return tiny.filled(module, "fun")


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def engine():
    with gf.Engine(settings=gf.Settings(device="cpu")) as engine:
        yield engine


@pytest.fixture
def model(tmp_path, engine):
    return open_model(tiny_flow.save(tmp_path, "z_image_turbo_bf16.safetensors"), engine.settings).model


def row_of(handle, latent, kept=None):
    entry = Entry(text=draw(5, 32, seed=1), controls=(Control(handle, torch.zeros(1), latent=latent, kept=kept),))
    ask = Ask(draw(*SHAPE, seed=4), 0.5, 0.25, 0.5, entry)
    return ask, handle.family.net.row(handle.config, ask, handle.family.net.prepare(handle.config, entry, SHAPE))


@pytest.mark.parametrize(
    ("columns", "refiner"), [(16, None), (33, "control_layers"), (33, "control_noise_refiner")], ids=["1", "2.0", "2.1"]
)
def test_a_fun_controlnet_answers_as_diffusers_does_with_the_way_in_of_the_model(
    columns, refiner, tmp_path, engine, model
):
    module = fun(columns, refiner)
    weights = {name: one.half() for name, one in module.state_dict().items()}
    if refiner == "control_layers":  # such files carry a refiner that was never trained
        weights |= {f"control_noise_refiner.0.{end}": torch.zeros(96, 96).half() for end in ("before_proj.weight",)}
    save_file(weights, tmp_path / "fun.safetensors")
    handle = open_model_patch(tmp_path / "fun.safetensors", engine.settings)
    assert handle.family.misfit(handle.config, model) == ""
    bound = handle.family.completed(handle, model)
    latent, kept = draw(1, 2 * CHANNELS, 8, 8, seed=3), torch.ones(1, 64, 64)
    ask, row = row_of(bound, latent, kept)
    loaded = load_part(bound, "denoiser", torch.float32)
    stacked = {name: one[None] for name, one in row.stacked.items()}
    found = bound.family.net.forward(loaded, stacked, row.common, {"text": [row.ragged["text"]]})
    base = load_part(model, "denoiser", torch.float32)
    whole = ZImageControlNetModel.from_transformer(module, base)
    unit = bound.family.latent(bound.config)
    hint = unit.into(latent[:, :CHANNELS])[0]
    if columns == 33:
        hint = torch.cat([hint, torch.ones(1, 8, 8), unit.into(latent[:, CHANNELS:])[0]])
    with torch.inference_mode():
        wanted = whole([ask.x[:, None]], torch.tensor([0.5]), [ask.entry.text], [hint[:, None]])
    assert set(found) == {"layer.0", "layer.1"}
    for number, one in wanted.items():
        torch.testing.assert_close(found[f"layer.{number}"], one, rtol=1e-3, atol=1e-3)

    plain = z_image.row(model.config, ask, z_image.prepare(model.config, ask.entry, SHAPE))
    residuals = {f"residual.{name}": answer for name, answer in found.items()}
    outs = [
        z_image.forward(
            base, {**{k: v[None] for k, v in plain.stacked.items()}, **more}, plain.common, {"text": [ask.entry.text]}
        )["out"]
        for more in ({}, residuals)
    ]
    with torch.inference_mode():
        (steered,) = base(
            [ask.x[:, None]], torch.tensor([0.5]), [ask.entry.text], controlnet_block_samples=wanted, return_dict=False
        )[0]
    assert not torch.allclose(outs[1], outs[0], atol=1e-3)
    torch.testing.assert_close(outs[1][0], steered[:, 0], rtol=1e-3, atol=1e-3)
