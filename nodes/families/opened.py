"""The handles of what lies in a file or a diffusers folder. Imports no torch and reads no weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from graphflow import GraphFlowError, Problem, Settings

from ..files.diffusers_folder import denoisers_to_name
from ..files.header import Header, read_header
from ..model.config import Config
from ..model.family import Family, Found
from ..model.handles import Clip, Model, Vae, WeightsSource
from . import FAMILIES, recognise, recognise_vae
from .kits import speech, vocabularies

__all__ = ["Opened", "open_beside", "open_model", "open_text_encoders", "open_vae", "unnamed_denoiser"]

DENOISER = "denoiser"
ANY = "*"
"""The type in `Family.prompts` of encoders that no other family has: they decide, whatever the type."""
FINDERS = tuple(dict.fromkeys(part.find for family in FAMILIES for part in family.parts.values() if part.find))
"""The functions that find a text encoder in a file of its own, with its name."""
TYPES = frozenset(type for family in FAMILIES for type in family.prompts) - {"", ANY}
"""Types of the loaders that stand for some families."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The handles of a file; None where it has no text encoders, or no VAE."""

    model: Model
    clip: Clip | None
    vae: Vae | None


def open_model(path: Path, settings: Settings) -> Opened:
    """The denoiser, the text encoders and the VAE of a file. Raises a Problem where it has no denoiser that can run, or
    several."""
    header = read_header(path)
    problem = unnamed_denoiser(header)
    if problem is not None:
        raise GraphFlowError([problem])
    return _opened(header, settings)


def open_beside(path: Path, settings: Settings) -> tuple[Clip | None, Vae | None]:
    """The text encoders and the VAE of a file, whichever of its denoisers is wanted."""
    found = _opened(read_header(path), settings)
    return found.clip, found.vae


def unnamed_denoiser(header: Header, name: str = "") -> Problem | None:
    """The Problem with a pipeline folder of this name whose denoiser is wanted, and which holds several."""
    parts = denoisers_to_name(header.configs) if "model_index" in header.configs else ()
    if not parts:
        return None
    name = name or header.path.name
    about = {part: f"{name}/{part}" for part in parts}
    if parts == ("transformer", "transformer_2") and str(header.configs[parts[1]].get("_class_name")).startswith("Wan"):
        about = {part: f"{name} ({of} noise)" for of, (part, name) in zip(("high", "low"), about.items(), strict=True)}
    return Problem(
        "several_denoisers",
        f"{name} holds {len(parts)} denoisers: {', '.join(parts)}",
        hint=f"load each by its name: {' and '.join(about.values())}",
    )


def _opened(header: Header, settings: Settings) -> Opened:
    _check_parts(header, "unet", "transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3")
    recognised = recognise(header)
    if recognised is None:
        raise GraphFlowError(
            [
                Problem(
                    "unknown_model",
                    f"{header.path.name} holds no model of a family that can run",
                    hint="look what it is: graphflow identify FILE",
                )
            ]
        )
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
    clip = _clip(family, found, header, texts) if texts else None
    if clip is not None:
        clip = replace(clip, sources=_with_vocabulary(dict(clip.sources), settings))
    return Opened(model, clip, _vae(header, source))


def open_vae(path: Path, settings: Settings) -> Vae:
    """The VAE of a file of its own, a folder, or a whole checkpoint. Raises a Problem where it has none that can
    run."""
    header = read_header(path)
    _check_parts(header, "vae")
    vae = _vae(header, partial(_source, header, settings.digests.of))
    if vae is None:
        raise GraphFlowError(
            [
                Problem(
                    "unknown_model",
                    f"{path.name} holds no VAE of a kind that can run",
                    hint="look what it is: graphflow identify FILE",
                )
            ]
        )
    return vae


def open_text_encoders(paths: list[Path], settings: Settings, type: str = "") -> Clip:
    """One handle of text encoders, in any order. `type` chooses between families that share them, as loaders name it.

    Raises a Problem where a file holds none that can run, or they do not belong together.
    """
    sources: dict[str, WeightsSource] = {}
    configs: dict[str, Config] = {}
    for path in paths:
        header = read_header(path)
        _check_parts(header)
        found = next((seen for find in FINDERS if (seen := find(header)) is not None), None)
        if found is None:
            raise GraphFlowError(
                [
                    Problem(
                        "unknown_model",
                        f"{path.name} holds no text encoder of a family that can run",
                        hint="look what it is: graphflow identify FILE",
                    )
                ]
            )
        name, text = found
        sources[f"text.{name}"] = _source(header, settings.digests.of, text.layout, text.prefix)
        configs[f"text.{name}"] = text.config
    family = _whose(type, tuple(sorted(part.removeprefix("text.") for part in sources)))
    if family is None or len(sources) != len(paths):
        names = " and ".join(path.name for path in paths)
        wanted = f", as type {type} takes them" if type in TYPES else ""
        raise GraphFlowError(
            [
                Problem(
                    "wrong_encoders",
                    f"{names} are not the text encoders of one family{wanted}",
                    hint="SDXL has CLIP-L and CLIP-G, FLUX.1 CLIP-L and T5, Stable Diffusion 3 CLIP-L, CLIP-G and T5",
                )
            ]
        )
    return Clip(family, _with_vocabulary(sources, settings), Config(configs))


def _whose(type: str, names: tuple[str, ...]) -> Family | None:
    wanted = (type if type in TYPES else "", ANY)
    fitting = (family for word in wanted for family in FAMILIES if names in family.prompts.get(word, ()))
    return next(fitting, None) or _with_speaker(names)


def _with_speaker(names: tuple[str, ...]) -> Family | None:
    """The family of a language model by itself that encodes prompts only together with others, and writes text
    alone."""
    parts = {f"text.{name}" for name in names} & speech.SPEAKERS.keys()
    return next((family for family in FAMILIES if len(names) == 1 and parts and parts <= family.parts.keys()), None)


def _with_vocabulary(sources: Mapping[str, WeightsSource], settings: Settings) -> tuple[tuple[str, WeightsSource], ...]:
    """With the vocabularies in the models folders that encoders need and do not bring."""
    found = dict(sorted(sources.items()))
    for name, vocabulary in vocabularies.VOCABULARIES.items():
        wanted = any(f"text.{encoder}" in found for encoder in vocabulary.encoders)
        lacks = wanted and f"tokenizer.{name}" not in found
        folder = vocabularies.folder_of(name, settings.models) if lacks else None
        if folder is not None:
            digest_now = partial(settings.digests.of, folder)
            found[f"tokenizer.{name}"] = WeightsSource(str(folder), digest_now(), "folder", "", digest_now)
    return tuple(found.items())


def _check_parts(header: Header, *parts: str) -> None:
    """Raises the Problems of those parts of a diffusers folder whose config or weights cannot be read."""
    problems = [header.broken[part] for part in (*parts, "") if part in header.broken]
    if problems:
        raise GraphFlowError(problems)


def _clip(family: Family, found: Found, header: Header, texts: Mapping[str, WeightsSource]) -> Clip:
    sources = dict(texts)
    for part, source in texts.items():
        folder = source.prefix.partition("/")[0].replace("text_encoder", "tokenizer") + "/"
        if header.format == "diffusers" and (header.path / folder).is_dir():
            letter = part.removeprefix("text.")
            sources[f"tokenizer.{letter}"] = WeightsSource(
                source.path, source.digest, "folder", folder, source.digest_now
            )
    folder = "t5_tokenizer/"
    if header.format == "diffusers" and (header.path / folder).is_dir():
        of_text = next(iter(texts.values()))
        sources["tokenizer.t5"] = WeightsSource(of_text.path, of_text.digest, "folder", folder, of_text.digest_now)
    return Clip(family, tuple(sources.items()), Config({part: found.config[part] for part in texts}))


def _vae(header: Header, source: Callable[..., WeightsSource]) -> Vae | None:
    recognised = recognise_vae(header)
    if recognised is None:
        return None
    family, found = recognised
    layout, prefix = found.parts["vae"]
    return Vae(family, (("vae", source(layout=layout, prefix=prefix)),), found.config)


def _source(header: Header, digest_of: Callable[[Path], str], layout: str, prefix: str) -> WeightsSource:
    digest_now = partial(digest_of, header.path)
    return WeightsSource(str(header.path), digest_now(), layout, prefix, digest_now)
