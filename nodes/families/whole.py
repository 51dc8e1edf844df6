"""Whether a file holds all weights of its networks: what is missing and what does not fit, from its header alone.

The first time the empty networks are built for it, which imports torch and takes seconds; no weights are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from graphflow import GraphFlowError, Problem

from ..files.convert import convert
from ..files.header import Header
from ..files.quantised import weights_of
from ..model.config import Config
from ..model.family import Family, part_config
from . import FAMILIES, recognise, recognise_vae
from .parameters import parameters_of

__all__ = ["unfit_parts"]


@lru_cache(maxsize=64)
def unfit_parts(header: Header) -> tuple[Problem, ...]:
    """One Problem for each network in a file that it does not fill; empty where all are whole, or none is known."""
    denoiser, vae = recognise(header), recognise_vae(header)
    problems: list[Problem] = []
    for family, found in filter(None, (denoiser, vae)):
        for part, (layout, prefix) in found.parts.items():
            if part in family.parts:  # the VAE beside a denoiser is another family's, and is looked at there
                problems += _unfit(header, family, part, found.config, layout, prefix)
    if denoiser is None and vae is None:
        problems += _unfit_encoder(header)
    return tuple(problems)


def _unfit_encoder(header: Header) -> Iterator[Problem]:
    """Of a text encoder that is a file by itself."""
    for family in FAMILIES:
        for described in family.parts.values():
            seen = described.find(header) if described.find is not None else None
            if seen is not None and f"text.{seen[0]}" in family.parts:
                name, found = seen
                yield from _unfit(header, family, f"text.{name}", found.config, found.layout, found.prefix)
                return


def _unfit(header: Header, family: Family, part: str, config: Config, layout: str, prefix: str) -> Iterator[Problem]:
    described = family.parts[part]
    try:
        convert(
            parameters_of(described, config, part),
            {name: info.shape for name, info in weights_of(header).items()},
            described.layouts[layout](part_config(config, part)),
            prefix=prefix,
            unused=described.unused,
            optional=described.optional,
            what=f"the {described.title or part} ({family.title})",
            file=header.path.name,
        )
    except GraphFlowError as error:
        yield from error.problems
