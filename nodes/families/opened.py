"""The handles of what lies in a file or a diffusers folder. Imports no torch and reads no weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from graphflow import GraphFlowError, Problem, Settings

from ..files.header import Header, read_header
from ..model.config import Config
from ..model.family import Family, Found
from ..model.handles import Clip, Model, Source, Vae
from . import recognise, recognise_vae
from .kits import clip as clip_kit
from .kits import qwen25_vl
from .qwen_image import QWEN_IMAGE
from .sdxl import SDXL, SDXL_REFINER
from .stable_diffusion import SD1, SD2

__all__ = ["Opened", "open_model", "open_text_encoders", "open_vae"]

DENOISER = "denoiser"
ENCODERS: Mapping[str, Family] = {"l": SD1, "h": SD2, "g": SDXL_REFINER}
"""Whose prompts a text encoder by itself encodes."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The handles of a file; None where it has no text encoders, or no VAE."""

    model: Model
    clip: Clip | None
    vae: Vae | None


def open_model(path: Path, settings: Settings) -> Opened:
    """The denoiser, the text encoders and the VAE of a file. Raises a Problem where it has no denoiser that can run."""
    header = read_header(path)
    _check_parts(header, "unet", "transformer", "vae", "text_encoder", "text_encoder_2")
    recognised = recognise(header)
    if recognised is None:
        raise GraphFlowError([Problem("unknown_model", f"{path.name} holds no model of a family that can run",
                                      hint="look what it is: graphflow identify FILE")])  # fmt: skip
    family, found = recognised
    source = partial(_source, header, settings.digests.of)
    sources = {part: source(layout=layout, prefix=prefix) for part, (layout, prefix) in found.parts.items()}
    texts = {part: place for part, place in sources.items() if part.startswith("text.")}
    own = set(found.parts) - {DENOISER}
    model = Model(
        family=family,
        sources=((DENOISER, sources[DENOISER]),),
        config=Config({name: value for name, value in found.config.items() if name not in own}),
    )
    return Opened(model, _clip(family, found, header, texts) if texts else None, _vae(header, source))


def open_vae(path: Path, settings: Settings) -> Vae:
    """The VAE of a file of its own, a folder, or a whole checkpoint. Raises a Problem where it has none that can run."""
    header = read_header(path)
    _check_parts(header, "vae")
    vae = _vae(header, partial(_source, header, settings.digests.of))
    if vae is None:
        raise GraphFlowError([Problem("unknown_model", f"{path.name} holds no VAE of a kind that can run",
                                      hint="look what it is: graphflow identify FILE")])  # fmt: skip
    return vae


def open_text_encoders(paths: list[Path], settings: Settings, type: str = "") -> Clip:
    """One handle of one text encoder, or of CLIP-L and CLIP-G in any order. Raises a Problem for others.

    `type` chooses between families that share an encoder.
    """
    if len(paths) == 1:
        header = read_header(paths[0])
        qwen = qwen25_vl.find(header)
        if qwen is not None:
            _check_parts(header)
            _check_type(paths[0], type, "Qwen2.5-VL", ("longcat_image", "hunyuan_image", "kandinsky5_image", "omnigen2"))
            source = _source(header, settings.digests.of, qwen.layout, qwen.prefix)
            return Clip(QWEN_IMAGE, (("text.qwen25vl", source),), Config({"text.qwen25vl": qwen.config}))
    sources: dict[str, Source] = {}
    configs: dict[str, Config] = {}
    for path in paths:
        header = read_header(path)
        _check_parts(header)
        found = clip_kit.find_any(header)
        if found is None:
            raise GraphFlowError([Problem("unknown_model", f"{path.name} holds no text encoder of a family that can run",
                                          hint="look what it is: graphflow identify FILE")])  # fmt: skip
        letter, text = found
        sources[f"text.{letter}"] = _source(header, settings.digests.of, text.layout, text.prefix)
        configs[f"text.{letter}"] = text.config
    letters = "".join(sorted(part.removeprefix("text.") for part in sources))
    family = SDXL if letters == "gl" else ENCODERS.get(letters)
    if family is None or len(sources) != len(paths):
        names = " and ".join(path.name for path in paths)
        raise GraphFlowError([Problem("wrong_encoders", f"{names} are not the two text encoders of one family",
                                      hint="SDXL has CLIP-L and CLIP-G")])  # fmt: skip
    return Clip(family=family, sources=tuple(sorted(sources.items())), config=Config(configs))


def _check_type(path: Path, type: str, encoder: str, others: tuple[str, ...]) -> None:
    """Raises a Problem where an encoder is to serve one of the `others`, families whose prompts are made another way."""
    if type in others:
        raise GraphFlowError([Problem("unknown_model", f"prompts of {type} cannot be encoded yet ({path.name} is {encoder})",
                                      input="type", hint="type qwen_image is what runs so far")])  # fmt: skip


def _check_parts(header: Header, *parts: str) -> None:
    """Raises the Problems of those parts of a diffusers folder whose config or weights cannot be read."""
    problems = [header.broken[part] for part in (*parts, "") if part in header.broken]
    if problems:
        raise GraphFlowError(problems)


def _clip(family: Family, found: Found, header: Header, texts: Mapping[str, Source]) -> Clip:
    sources = dict(texts)
    for part, source in texts.items():
        folder = source.prefix.replace("text_encoder", "tokenizer")
        if header.format == "diffusers" and (header.path / folder).is_dir():
            letter = part.removeprefix("text.")
            sources[f"tokenizer.{letter}"] = Source(source.path, source.digest, "folder", folder, source.digest_now)
    return Clip(family, tuple(sources.items()), Config({part: found.config[part] for part in texts}))


def _vae(header: Header, source: Callable[..., Source]) -> Vae | None:
    recognised = recognise_vae(header)
    if recognised is None:
        return None
    family, found = recognised
    layout, prefix = found.parts["vae"]
    return Vae(family, (("vae", source(layout=layout, prefix=prefix)),), found.config)


def _source(header: Header, digest_of: Callable[[Path], str], layout: str, prefix: str) -> Source:
    digest_now = partial(digest_of, header.path)
    return Source(str(header.path), digest_now(), layout, prefix, digest_now)
