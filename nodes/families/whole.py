"""Whether a file holds all weights of its networks: what is missing and what does not fit, from its header alone.

The empty networks are built for it, which imports torch and takes seconds; no weights are read.
"""

from __future__ import annotations

from collections.abc import Iterator

from graphflow import GraphFlowError, Problem

from ..files.header import Header
from ..model.family import Family, Found, part_config
from . import recognise, recognise_vae

__all__ = ["unfit_parts"]


def unfit_parts(header: Header) -> list[Problem]:
    """One Problem for each network in a file that it does not fill; empty where all are whole, or none is known."""
    return [problem for family, found in _known(header) for problem in _unfit(header, family, found)]


def _known(header: Header) -> Iterator[tuple[Family, Found]]:
    denoiser, vae = recognise(header), recognise_vae(header)
    if denoiser is not None:
        yield denoiser
    if vae is not None:
        yield vae


def _unfit(header: Header, family: Family, found: Found) -> Iterator[Problem]:
    from ..files.convert import convert
    from ..files.load import build
    from ..files.quantised import weights_of

    shapes = {name: info.shape for name, info in weights_of(header).items()}
    for part, (layout, prefix) in found.parts.items():
        if part not in family.parts:
            continue  # the VAE beside a denoiser is another family's, and is looked at there
        described = family.parts[part]
        module = build(described, found.config, part)
        try:
            convert(
                {name: tuple(weight.shape) for name, weight in module.state_dict().items()},
                shapes,
                described.layouts[layout](part_config(found.config, part)),
                prefix=prefix,
                unused=described.unused,
                optional=described.optional,
                what=f"the {described.title or part} ({family.title})",
                file=header.path.name,
            )
        except GraphFlowError as error:
            yield from error.problems
