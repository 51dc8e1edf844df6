"""The kinds of `model.model`, for comparisons."""

from enum import Enum

from graphflow_nodes.foreign.kinds import MODEL_KINDS as _KINDS

globals().update(_KINDS)
__all__ = [*_KINDS, "ModelType"]


class ModelType(Enum):
    """What the network answers."""

    EPS = 1
    V_PREDICTION = 2
    V_PREDICTION_EDM = 3
    STABLE_CASCADE = 4
    EDM = 5
    FLOW = 6
    V_PREDICTION_CONTINUOUS = 7
    FLUX = 8
    IMG_TO_IMG = 9
    FLOW_COSMOS = 10
