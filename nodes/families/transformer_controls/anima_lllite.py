"""ControlNet-LLLite of Anima: small networks in front of single Linear layers of the transformer, and one that reads
the image for all of them.

A file names the layers that it steers (`lllite_dit_blocks_0_self_attn_q_proj`). Files for inpainting see the mask as a
fourth channel. The layout is that of kohya's training scripts, version 2.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ...files.convert import Table
from ...files.header import Header
from ...model.config import Config
from ...model.family import Family, Found, Part
from ...model.handles import Model
from ..anima import ANIMA
from .layouts import Shape, count_of, shapes_of

__all__ = ["ANIMA_LLLITE", "LAYERS"]

LAYERS = {
    "self_attn_q_proj": "attn1.to_q",
    "self_attn_k_proj": "attn1.to_k",
    "self_attn_v_proj": "attn1.to_v",
    "cross_attn_q_proj": "attn2.to_q",
    "mlp_layer1": "ff.net.0.proj",
}
"""The layers of a block that can be steered: their names in files -> those of diffusers."""
RATES = (1, 2, 4, 8)
"""Dilations of the pyramid of a file whose metadata does not state them."""
_TRUNK, _STEERED = "lllite_conditioning1", re.compile(rf"lllite_dit_blocks_(\d+)_({'|'.join(LAYERS)})")


def _recognise(header: Header) -> Found | None:
    shapes = shapes_of(header)
    first = shapes.get(f"{_TRUNK}.conv1.weight")
    names = {key.partition(".")[0] for key in shapes} - {_TRUNK}
    steered = [found for name in sorted(names) if (found := _STEERED.fullmatch(name))]
    if first is None or len(steered) != len(names):
        return None
    layers = tuple(
        (int(found[1]), found[2], shapes[f"{found[0]}.up.weight"][0], shapes[f"{found[0]}.down.weight"][0])
        for found in sorted(steered, key=lambda found: (int(found[1]), found[2]))
    )
    denoiser = Config(
        channels=first[1],
        width=shapes[f"{_TRUNK}.conv3.weight"][0],
        embedding=shapes[f"{_TRUNK}.proj.weight"][0],
        blocks=count_of(shapes, f"{_TRUNK}.resblocks.{{}}.conv1.weight"),
        rates=_rates(shapes, header.metadata.get("lllite.aspp_dilations", "")),
        layers=layers,
        has_depth=all(f"{found[0]}.depth_embed" in shapes for found in steered),
        hides_masked=header.metadata.get("lllite.inpaint_masked_input", "").lower() == "true",
    )
    variant = "ControlNet-LLLite" + (" for inpainting" if denoiser.channels > 3 else "")
    return Found(Config({"denoiser": denoiser}), {"denoiser": ("lllite", "")}, variant)


def _rates(shapes: Mapping[str, Shape], stated: str) -> tuple[int, ...]:
    """The dilations of the branches of the pyramid; () where the file has none."""
    count = count_of(shapes, f"{_TRUNK}.aspp.branches.{{}}.0.weight")
    rates = tuple(int(rate) for rate in stated.split(",") if rate.strip()) or RATES[:count]
    if count and len(rates) != count:
        raise ValueError(f"{count} branches with the dilations {rates}")
    return rates if count else ()


def _table(config: Config) -> Table:
    names = (f"blocks_{block}_{layer}" for block, layer, *_ in config.layers)
    return {"trunk": _TRUNK, **{f"layers.{name}": f"lllite_dit_{name}" for name in names}}


def _misfit(config: Config, model: Model) -> str:
    if model.family.name != ANIMA.name:
        return f"it steers Anima, the model is {model.family.title}"
    own, other = config.denoiser, model.config.denoiser.transformer
    width = other.num_attention_heads * other.attention_head_dim
    if wrong := next((dim for *_, dim, _ in own.layers if dim != width), None):
        return f"it steers an Anima with {wrong} channels, the model has {width}"
    last = max(block for block, *_ in own.layers)
    if last >= other.num_layers:
        return f"it steers an Anima of {last + 1} blocks or more, the model has {other.num_layers}"
    return ""


ANIMA_LLLITE = Family(
    name="anima_lllite",
    version="1",
    title="ControlNet-LLLite of Anima",
    recognise=_recognise,
    parts={
        "denoiser": Part(
            build=f"{__package__}.anima_lllite_network:build",
            layouts={"lllite": _table},
            title="ControlNet-LLLite",
        )
    },
    latent=lambda config: ANIMA.latent(Config(denoiser={"transformer": {"out_channels": 16}})),
    network=f"{__package__}.anima_lllite_network",
    misfit=_misfit,
    acts_within=True,
)
