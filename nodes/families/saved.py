"""Whether a checkpoint that is written will be read as the model that it holds."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphflow import GraphFlowError, Problem

from ..files.header import read_header
from ..files.load import build
from ..files.write_model import TensorEntry
from ..model.config import Config
from ..model.family import Family
from ..model.handles import Model
from . import recognise

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["check_reads_as", "marks_of"]


def marks_of(model: Model) -> list[TensorEntry]:
    """Tensors beside the weights that state what a model predicts, as trainers of SDXL write them."""
    import torch

    predicts = model.config.get("prediction", {})
    marks = {}
    if model.family.name == "sdxl" and predicts.get("kind") == "v":
        marks["v_pred"] = torch.tensor([])
        if predicts.get("zero_snr"):
            marks["ztsnr"] = torch.tensor([])
    if model.family.name == "sdxl" and predicts.get("kind") == "edm_v":
        marks = {f"edm_vpred.{name}": torch.tensor(float(predicts[name])) for name in ("sigma_max", "sigma_min")}
    return [TensorEntry(name, "F32", tuple(one.shape), partial(_itself, one)) for name, one in marks.items()]


def _itself(tensor: Tensor) -> Tensor:
    return tensor


def check_reads_as(model: Model, path: str) -> None:
    """Raises a Problem where a file would be read as another network, prediction or latent than the model's."""
    found = recognise(read_header(Path(path)))
    unlike = []
    if found is None or found[0] is not model.family:
        unlike.append("its family")
    else:
        family, config = model.family, found[1].config
        if _looks(family, config) != _looks(family, model.config):
            unlike.append("the sizes of its network")
        if family.prediction(config).identity() != family.prediction(model.config).identity():
            unlike.append("what it predicts")
        if family.latent(config) != family.latent(model.config):
            unlike.append("the unit of its latents")
    if unlike:
        raise GraphFlowError(
            [
                Problem(
                    "not_saved",
                    f"a checkpoint cannot state {' and '.join(unlike)}: read again it would be another model",
                    input="model",
                    hint="models whose folders state more than a checkpoint can hold stay in that form",
                )
            ]
        )


def _looks(family: Family, config: Config) -> tuple[str, list[int]] | None:
    """The layers of a network with their sizes, and the heads of its attentions, which layers do not show; None where
    there is no such network."""
    try:
        network: Any = build(family.parts["denoiser"], config, "denoiser")
    except ValueError:
        return None
    return repr(network), [module.heads for module in network.modules() if hasattr(module, "heads")]
