"""GraphFlow: a typed node-graph engine for diffusion pipelines.

Importing starts no thread, opens no port, touches no GPU and imports no model library.
"""

from .cache import Cache
from .context import Context
from .engine import Engine, NodeResult, Result, SavedImage, run
from .events import Event
from .node import Lazy, NodeType, Ui, node
from .problem import Cancelled, GraphFlowError, InvalidWorkflow, NodeFailed, Problem, did_you_mean
from .registry import Registry
from .settings import Settings
from .types import (
    AnyType,
    Choice,
    ClipHandle,
    Conditioning,
    Help,
    Image,
    Latent,
    Mask,
    ModelHandle,
    Multiline,
    Range,
    Seed,
    Upload,
    VaeHandle,
    Wire,
)
from .values import Handle
from .workflow import Link, Node, Place, Workflow

__version__ = "0.1.0"

__all__ = [
    "AnyType", "Cache", "Cancelled", "Choice", "ClipHandle", "Conditioning", "Context", "Engine", "Event", "GraphFlowError",
    "Handle", "Help", "Image", "InvalidWorkflow", "Latent", "Lazy", "Link", "Mask", "ModelHandle", "Multiline", "Node",
    "NodeFailed", "NodeResult", "NodeType", "Place", "Problem", "Range", "Registry", "Result", "SavedImage", "Seed", "Settings",
    "Ui", "Upload", "VaeHandle", "Wire", "Workflow", "did_you_mean", "node", "run",
]  # fmt: skip
