"""The VAE of LTX-Video (arXiv 2501.00103), of images and videos: its config from shapes, and its table. Imports no
torch.

A cell is 32 x 32 pixels of 8 frames; the first frame is a latent frame by itself. Configs are arguments of diffusers'
AutoencoderKLLTXVideo. Version 0.9 has a plain decoder; from 0.9.1 on the decoder is asked with a time and takes the
last step of the sampling; 0.9.5 has another encoder. The shapes of a file show which it is. In all published versions
an upsampler that narrows its channels has a shortcut.

Layouts: `ltx` (the publisher's names, which number the pieces of a half through) and `diffusers`. The VAE of LTX-2 has
the pieces of 0.9.5 without a time, and pads in another way: it is another kind (ltx2_vae.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count as numbers
from math import isqrt
from typing import Literal

from ...files.convert import Table
from ...files.header import Header
from ...model.config import Config
from ...model.family import Family, Found, Part
from ...model.latent import LatentFormat
from .flow import Shape, count

__all__ = [
    "LAYOUTS",
    "LTX_VAE",
    "SPACE",
    "TIME",
    "UNITED",
    "Halves",
    "find",
    "find_by",
    "halves_of",
    "has_causal_times",
    "latent_of",
]

SPACE, TIME = 32, 8
"""Pixels of a cell along a side, and frames of a latent frame after the first, of all published VAEs."""
CLASS, OLD_BLOCK, NEW_BLOCK = "AutoencoderKLLTXVideo", "LTXVideoDownBlock3D", "LTXVideo095DownBlock3D"
PREFIXES = ("vae.", "first_stage_model.", "")
Kind = Literal["blocks", "step", "change"]
"""Residual blocks of one width; what halves or doubles sides; a residual block between two widths."""
UNITED = {4: "spatial", 2: "temporal", 8: "spatiotemporal"}
"""Cells that become one in a step of 0.9.5 -> the type of the step."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """A piece of a half."""

    kind: Kind
    shapes: Mapping[str, Shape]
    """By the names inside it, with residual blocks in a list `blocks`."""

    @property
    def conv(self) -> Shape:
        """The shape of its first convolution, [out, in, frames, rows, columns]."""
        return next(self.shapes[f"{name}.weight"] for name in _FIRST[self.kind] if f"{name}.weight" in self.shapes)

    @property
    def layers(self) -> int:
        return count(self.shapes, "blocks.{}.conv1.conv.weight")

    @property
    def is_folding(self) -> bool:
        """Of a step: cells become channels or channels cells; else it is a convolution with a stride."""
        return "conv.conv.weight" in self.shapes

    @property
    def narrowing(self) -> int:
        """Of an upsampler, which makes eight cells of one: by what it divides the channels."""
        return 8 * self.conv[1] // self.conv[0]


_FIRST: Mapping[Kind, tuple[str, ...]] = {
    "blocks": ("blocks.0.conv1.conv",),
    "step": ("conv.conv", "conv"),
    "change": ("conv1.conv",),
}
"""Kind of a piece -> the names that its first convolution may have."""
Level = Mapping[Kind, _Piece]
Read = Callable[[Mapping[str, Shape], str], "Config | None"]
"""Shapes and layout -> the arguments of a class."""


@dataclass(frozen=True, slots=True)
class Halves:
    """The levels of an encoder and of a decoder, each in the order in which they act."""

    down: Sequence[Level]
    middle: Level
    up: Sequence[Level]
    """Begins with the middle of the decoder."""

    @property
    def are_new(self) -> bool:
        """The encoder makes channels of cells, as from 0.9.5 on."""
        return any("step" in level and level["step"].is_folding for level in self.down)


def find(header: Header) -> tuple[Config, str, str] | None:
    """Config, layout and prefix of the VAE of a file or a folder; None where there is none."""
    return find_by(header, CLASS, _read)


def find_by(header: Header, class_name: str, read: Read) -> tuple[Config, str, str] | None:
    """The same of a kind of VAE that has these pieces."""
    for part in ("vae", ""):
        stated = header.configs.get(part)
        if stated is not None and stated.get("_class_name") == class_name:
            prefix = f"{part}/" if part else ""
            config = read(_under(header, prefix), "diffusers")
            if config is None:
                return None
            return config | {name: stated[name] for name in config if stated.get(name) is not None}, "diffusers", prefix
    for prefix in PREFIXES if header.format != "diffusers" else ():
        shapes = _under(header, prefix)
        for layout in LAYOUTS:
            config = read(shapes, layout)
            if config is not None:
                return config, layout, prefix
    return None


def latent_of(channels: int) -> LatentFormat:
    """The latents of a denoiser that has this VAE, which normalises them itself, channel by channel."""
    return LatentFormat(channels=channels, factor=SPACE, axes=3, time_factor=TIME, patch=1)


def has_causal_times(config: Config) -> bool:
    """Whether a VAE is that of 0.9.5 or later, whose denoisers count the first latent frame as one frame."""
    return bool(config.down_block_types[0] == NEW_BLOCK)


def _recognise(header: Header) -> Found | None:
    found = find(header)
    return Found(found[0], {"vae": found[1:]}) if found is not None else None


def _under(header: Header, prefix: str) -> dict[str, Shape]:
    length = len(prefix)
    return {name[length:]: info.shape for name, info in header.tensors.items() if name.startswith(prefix)}


def halves_of(shapes: Mapping[str, Shape], layout: str) -> Halves | None:
    """None where the shapes are those of another VAE."""
    if not all(len(shapes.get(f"{half}.conv_in.conv.weight", ())) == 5 for half in ("encoder", "decoder")):
        return None
    pieces = _of_ltx if layout == "ltx" else _of_diffusers
    *down, middle = _levels(list(pieces(shapes, "encoder"))[::-1])[::-1] or [{}]
    up = _levels(list(pieces(shapes, "decoder")))
    if not down or len(up) < 2 or not all("blocks" in level for level in (*down, middle, *up)):
        return None
    return Halves(down, middle, up)


def _read(shapes: Mapping[str, Shape], layout: str) -> Config | None:
    """The arguments of the class; None where the shapes are those of another VAE."""
    halves = halves_of(shapes, layout)
    if halves is None:
        return None
    embedder = "decoder.last_time_embedder" if layout == "ltx" else "decoder.time_embedder"
    has_time = f"{embedder}.timestep_embedder.linear_1.weight" in shapes
    if halves.are_new and not has_time:
        return None  # LTX-2
    return _config(halves.down, halves.middle, halves.up, halves.are_new) | Config(
        latent_channels=shapes["decoder.conv_in.conv.weight"][1],
        patch_size=isqrt(shapes["encoder.conv_in.conv.weight"][1] // 3),
        timestep_conditioning=has_time,
    )


def _config(down: Sequence[Level], middle: Level, up: Sequence[Level], is_new: bool) -> Config:
    """`up` begins with the middle of the decoder, whose lists the class takes from its end to its begin."""
    widths = [level["blocks"].conv[0] for level in (*down, middle)]
    steps = [level.get("step") for level in down]
    united = [
        UNITED[after // step.conv[0]] if step is not None and is_new else "conv"
        for step, after in zip(steps, widths[1:], strict=True)
    ]
    grown = [level.get("step") for level in up[1:]]
    factors = [1 if step is None else step.narrowing for step in grown]
    made = [level["blocks"].conv[0] * factor for level, factor in zip(up[1:], factors, strict=True)]
    return Config(
        block_out_channels=widths if is_new else widths[:-1],
        down_block_types=[NEW_BLOCK if is_new else OLD_BLOCK] * len(down),
        layers_per_block=[level["blocks"].layers for level in (*down, middle)],
        spatio_temporal_scaling=[step is not None for step in steps],
        downsample_type=united,
        decoder_block_out_channels=made[::-1],
        decoder_layers_per_block=[level["blocks"].layers for level in up][::-1],
        decoder_spatio_temporal_scaling=[step is not None for step in grown][::-1],
        decoder_inject_noise=["blocks.0.per_channel_scale1" in level["blocks"].shapes for level in up][::-1],
        upsample_residual=[factor > 1 for factor in factors][::-1],
        upsample_factor=factors[::-1],
        encoder_causal=True,
        decoder_causal=False,
        spatial_compression_ratio=SPACE,
        temporal_compression_ratio=TIME,
    )


def _levels(pieces: Sequence[_Piece]) -> list[Level]:
    """A level ends with its residual blocks: in a decoder, and in an encoder that is read from its end."""
    found: list[dict[Kind, _Piece]] = [{}]
    for piece in pieces:
        found[-1][piece.kind] = piece
        if piece.kind == "blocks":
            found.append({})
    return [level for level in found if level]


def _of_ltx(shapes: Mapping[str, Shape], half: str) -> Iterator[_Piece]:
    for number in numbers():
        piece = _piece(shapes, f"{half}.{_WAY[half]}_blocks.{number}", "res_blocks", ("blocks", "step", "change"))
        if piece is None:
            return
        yield piece


def _of_diffusers(shapes: Mapping[str, Shape], half: str) -> Iterator[_Piece]:
    middle = _piece(shapes, f"{half}.mid_block", "resnets", ("blocks",))
    if middle is not None and half == "decoder":
        yield middle
    for number in numbers():
        name = f"{half}.{_WAY[half]}_blocks.{number}"
        found = [_piece(shapes, f"{name}{place}", "resnets", (kind,)) for kind, place in _PLACES[half]]
        if not any(found):
            break
        yield from (piece for piece in found if piece is not None)
    if middle is not None and half == "encoder":
        yield middle


_WAY = {"encoder": "down", "decoder": "up"}
_PLACES: Mapping[str, tuple[tuple[Kind, str], ...]] = {
    "encoder": (("blocks", ""), ("step", ".downsamplers.0"), ("change", ".conv_out")),
    "decoder": (("change", ".conv_in"), ("step", ".upsamplers.0"), ("blocks", "")),
}
"""The pieces of a level of the class, in order."""


def _piece(shapes: Mapping[str, Shape], name: str, blocks: str, kinds: tuple[Kind, ...]) -> _Piece | None:
    """The piece at a place, of the first of `kinds` that is there; `blocks` is the name of its list of blocks."""
    begin = f"{name}."
    inside = {
        key.removeprefix(begin).replace(f"{blocks}.", "blocks.", 1): shape
        for key, shape in shapes.items()
        if key.startswith(begin)
    }
    for kind in kinds:
        if any(len(inside.get(f"{conv}.weight", ())) == 5 for conv in _FIRST[kind]):
            return _Piece(kind, inside)
    return None


def _ltx(config: Config) -> Table:
    table = {
        "": "",
        "latents_mean": "per_channel_statistics.mean-of-means",
        "latents_std": "per_channel_statistics.std-of-means",
        "decoder.time_embedder": "decoder.last_time_embedder",
        "decoder.scale_shift_table": "decoder.last_scale_shift_table",
    }
    for half, named in (("encoder", _named_down(config)), ("decoder", _named_up(config))):
        for number, (kind, name) in enumerate(named):
            here, there = f"{half}.{name}", f"{half}.{_WAY[half]}_blocks.{number}"
            if kind == "blocks":
                table[f"{here}.resnets"] = f"{there}.res_blocks"
                table[f"{here}.time_embedder"] = f"{there}.time_embedder"
                continue
            table[here] = there
            if kind == "change":
                table[f"{here}.norm3"] = f"{there}.norm3.norm"
                table[f"{here}.conv_shortcut.conv"] = f"{there}.conv_shortcut"
    return table


def _named_down(config: Config) -> Iterator[tuple[Kind, str]]:
    """The kinds and names of the pieces of the encoder in the class, in their order."""
    widths = config.block_out_channels
    for number, (kind, has_step) in enumerate(
        zip(config.down_block_types, config.spatio_temporal_scaling, strict=True)
    ):
        name = f"down_blocks.{number}"
        yield "blocks", name
        if has_step:
            yield "step", f"{name}.downsamplers.0"
        if kind == OLD_BLOCK and widths[number] != widths[min(number + 1, len(widths) - 1)]:
            yield "change", f"{name}.conv_out"
    yield "blocks", "mid_block"


def _named_up(config: Config) -> Iterator[tuple[Kind, str]]:
    """The same of the decoder."""
    yield "blocks", "mid_block"
    widths, factors = config.decoder_block_out_channels[::-1], config.upsample_factor[::-1]
    before = widths[0]
    for number, (width, factor, has_step) in enumerate(
        zip(widths, factors, config.decoder_spatio_temporal_scaling[::-1], strict=True)
    ):
        name = f"up_blocks.{number}"
        if before // factor != width // factor:
            yield "change", f"{name}.conv_in"
        if has_step:
            yield "step", f"{name}.upsamplers.0"
        yield "blocks", name
        before = width // factor


LAYOUTS: Mapping[str, Callable[[Config], Table]] = {"ltx": _ltx, "diffusers": lambda config: {"": ""}}

LTX_VAE = Family(
    name="ltx_vae",
    version="1",
    title="VAE of LTX-Video",
    recognise=_recognise,
    parts={
        "vae": Part(
            build=f"{__name__}_network:build", layouts=LAYOUTS, title="VAE", unused=("per_channel_statistics.*",)
        )
    },
    latent=lambda config: latent_of(config.latent_channels),
    network=f"{__name__}_network",
)
"""A kind of VAE: its latents are normalised. An image is a video of one frame."""
