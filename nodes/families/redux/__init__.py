"""FLUX.1 Redux: what an image encoder sees as further tokens of a text, so that an image is made anew."""

from __future__ import annotations

from ...files.header import Header
from ...model.config import Config
from ...model.family import Family, Found, Part

__all__ = ["REDUX"]

UP, DOWN = "redux_up.weight", "redux_down.weight"


def _recognise(header: Header) -> Found | None:
    if UP not in header.tensors or DOWN not in header.tensors:
        return None
    up, down = header.tensors[UP].shape, header.tensors[DOWN].shape
    return Found(Config(redux_dim=up[1], txt_in_features=down[0]), {"style": ("own", "")}, "Redux")


REDUX = Family(
    name="redux",
    version="1",
    title="FLUX.1 Redux",
    recognise=_recognise,
    parts={"style": Part(build=f"{__name__}.network:build", layouts={"own": lambda config: {"": ""}}, title="Redux")},
    network=f"{__name__}.network",
)
