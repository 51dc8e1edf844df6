"""GraphFlow: a typed node-graph engine for diffusion pipelines.

Importing starts no thread, opens no port, touches no GPU and imports no model library.
"""

from .cache import Cache
from .context import Context
from .engine import Engine, NodeResult, Result, SavedImage, run
from .events import Event
from .namespace import Nodes
from .node import Lazy, NodeType, Ui, node
from .problem import Cancelled, GraphFlowError, InvalidWorkflow, NodeFailed, Problem, did_you_mean
from .registry import Registry
from .script import Graph, NodeHandle, Value, subgraph
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
    "AnyType", "Cache", "Cancelled", "Choice", "ClipHandle", "Conditioning", "Context", "did_you_mean", "Engine",
    "Event", "Graph", "GraphFlowError", "Handle", "Help", "Image", "InvalidWorkflow", "Latent", "Lazy", "Link",
    "Mask", "ModelHandle", "Multiline", "Node", "node", "NodeFailed", "NodeHandle", "NodeResult", "Nodes", "NodeType",
    "Place", "Problem", "Range", "Registry", "Result", "run", "SavedImage", "Seed", "Settings", "subgraph", "Ui",
    "Upload", "VaeHandle", "Value", "Wire", "Workflow",
]  # fmt: skip
