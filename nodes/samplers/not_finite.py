"""The Problem with an answer of a denoiser that holds NaN or infinite numbers: the likely cause, and what to try.

Networks that were trained in bfloat16 overflow in float16, whose largest number is 65,504. bfloat16 has the range of
float32, so there the file is the likelier cause, above all one whose weights are stored in few bits.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import torch

from graphflow import GraphFlowError, Problem

from ..files.header import read_header
from ..files.quantised import packed_as
from ..model.handles import Model

__all__ = ["not_finite"]


def not_finite(model: Model, level: float, dtype: torch.dtype) -> Problem:
    """The Problem with the answer at a noise level of a model that computes in `dtype`."""
    computes, (file, stored) = str(dtype).removeprefix("torch."), _file_of(model)
    if model.dtype is not None and model.dtype.startswith("fp8"):
        stored = model.dtype
    of_file = f" ({file}, stored as {stored})" if stored else f" ({file})" if file else ""
    return Problem(
        "not_a_number",
        f"the answer of the model{of_file} at the noise level {level:.4g} holds NaN or infinite numbers; "
        f"it computes in {computes}",
        hint=_advice(computes, stored),
    )


def _advice(computes: str, stored: str) -> str:
    if computes == "float16":
        return (
            "the likely cause is float16, which holds no number above 65,504: "
            "try --dtype bfloat16 (it has the range of float32), or --dtype float32"
        )
    if stored:
        other = " and the weight_dtype default" if stored.startswith("fp8_") else ""
        exact = " and --dtype float32" if computes != "float32" else ""
        return f"the likely cause is the format of the weights, {stored}: try the file in bf16 or fp16{other}{exact}"
    if computes == "bfloat16":
        return "try --dtype float32; if that changes nothing, the weights may be damaged: get the file again"
    return "the weights may be damaged, or the latent or the conditioning holds infinite numbers; try a lower cfg"


def _file_of(model: Model) -> tuple[str, str]:
    """The name of the file of the denoiser, and the format that most of its weights are packed in."""
    for _, source in model.sources[:1]:
        with suppress(GraphFlowError, OSError):
            return Path(source.path).name, packed_as(read_header(Path(source.path)))
    return "", ""
