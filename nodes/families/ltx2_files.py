"""The files that LTX-2 needs beside its transformer: text encoder with connectors, audio VAE with vocoder. Opened and
checked here, from headers: imports no torch and reads no weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from graphflow import GraphFlowError, Problem, Settings

from ..files.folders import ModelFolders
from ..files.header import Header, read_header
from ..model.handles import Clip, Vae, WeightsSource
from . import recognise
from .check_files import check_model_file
from .kits import language_model
from .ltx2 import connectors
from .ltx2_audio import LTX2_AUDIO
from .opened import open_text_encoders

__all__ = ["check_audio_vae", "check_text_encoder", "open_audio_vae", "open_text_encoder"]

TYPE = "ltxv"
"""Of the loaders of text encoders."""


def open_text_encoder(encoder: Path, checkpoint: Path, settings: Settings) -> Clip:
    """Gemma 3 and the connectors of a checkpoint as one handle. Raises a Problem where they do not belong together."""
    problem = _misfit(read_header(encoder), read_header(checkpoint))
    if problem is not None:
        raise GraphFlowError([problem])
    return open_text_encoders([encoder, checkpoint], settings, TYPE)


def check_text_encoder(
    settings: Settings, literals: Mapping[str, Any], types: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """The `check` of LTXAVTextEncoderLoader. Only headers are read."""
    encoder, checkpoint = literals.get("text_encoder"), literals.get("ckpt_name")
    if isinstance(encoder, str):
        problems = check_model_file(settings, "text_encoders", encoder, "text encoder")
        if problems:
            raise GraphFlowError([replace(problem, input="text_encoder") for problem in problems])
    if isinstance(encoder, str) and isinstance(checkpoint, str):
        folders = ModelFolders(list(settings.models), settings.pickles)
        problem = _misfit(
            read_header(folders.find("text_encoders", encoder)), read_header(folders.find("checkpoints", checkpoint))
        )
        if problem is not None:
            raise GraphFlowError([problem])
    yield from ()


def open_audio_vae(path: Path, settings: Settings) -> Vae:
    """The audio VAE and the vocoder of a checkpoint as one handle. Raises a Problem where it has not both."""
    header = read_header(path)
    found = LTX2_AUDIO.recognise(header)
    if found is None:
        raise GraphFlowError([_soundless(header)])
    digest_now = partial(settings.digests.of, path)
    sources = tuple(
        (part, WeightsSource(str(path), digest_now(), layout, prefix, digest_now))
        for part, (layout, prefix) in found.parts.items()
    )
    return Vae(LTX2_AUDIO, sources, found.config)


def check_audio_vae(
    settings: Settings, literals: Mapping[str, Any], types: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """The `check` of LTXVAudioVAELoader. Only the header is read."""
    name = literals.get("ckpt_name")
    if isinstance(name, str):
        header = read_header(ModelFolders(list(settings.models), settings.pickles).find("checkpoints", name))
        if LTX2_AUDIO.recognise(header) is None:
            raise GraphFlowError([_soundless(header)])
    yield from ()


def _misfit(encoder: Header, checkpoint: Header) -> Problem | None:
    found = language_model.find_any(encoder)
    if found is None or found[0] != "gemma3":
        return Problem(
            "wrong_encoder",
            f"{encoder.path.name} is not Gemma 3, which the connectors of LTX-2 read",
            input="text_encoder",
            hint="use gemma_3_12B_it, in any number format",
        )
    behind = connectors.find(checkpoint)
    if behind is None:
        return _unconnected(checkpoint)
    why = connectors.misfit(found[1].config, behind.config)
    if why:
        return Problem(
            "wrong_encoder",
            f"{encoder.path.name} and {checkpoint.path.name}: {why}",
            input="text_encoder",
            hint="use the size of Gemma 3 that the checkpoint was trained with: 12B for LTX-2",
        )
    return None


def _unconnected(checkpoint: Header) -> Problem:
    name, recognised = checkpoint.path.name, recognise(checkpoint)
    if recognised is not None and recognised[0].name == "ltx":
        return Problem(
            "wrong_model",
            f"{name} is LTX-Video, which reads T5 without connectors",
            input="ckpt_name",
            hint="load t5xxl with CLIPLoader, type ltxv; LTXAVTextEncoderLoader is for LTX-2",
        )
    return Problem(
        "no_such_part",
        f"{name} has no text connectors of LTX-2"
        + (f": it is {recognised[0].title}" if recognised is not None and recognised[0].name != "ltx2" else ""),
        input="ckpt_name",
        hint="name the whole checkpoint (ltx-2-19b-dev), or the file of its connectors",
    )


def _soundless(header: Header) -> Problem:
    return Problem(
        "no_such_part",
        f"{header.path.name} has no audio VAE with a vocoder of LTX-2",
        input="ckpt_name",
        hint="name the whole checkpoint (ltx-2-19b-dev), or the file of its audio VAE",
    )
