"""GraphFlow: a typed node-graph engine for diffusion pipelines.

Importing starts no thread, opens no port, touches no GPU and imports no model library.
"""

from .cache import Cache
from .cluster.remote import Remote, connect
from .document.workflow import Link, Node, Place, Source, Workflow, as_workflow
from .engine import Checked, Engine, NodeResult, Result, SavedImage, run
from .events import Event
from .nodetype.context import Context
from .nodetype.node import ALWAYS, Blocked, Each, Every, Expansion, Lazy, NodeType, Ui, node
from .nodetype.types import (
    AnyType,
    Choice,
    ClipHandle,
    Conditioning,
    Grow,
    Help,
    Image,
    Latent,
    Mask,
    Match,
    ModelHandle,
    Multiline,
    Range,
    Rows,
    Seed,
    Upload,
    VaeHandle,
    Variants,
    Wire,
)
from .problem import Cancelled, GraphFlowError, InvalidWorkflow, NodeFailed, Problem, UnusedInput, did_you_mean
from .registry import Registry
from .script.graph import Graph, subgraph
from .script.handles import NodeHandle, Value
from .script.namespace import Nodes
from .script.templates import Wildcards, prompts, random_prompt, wildcards_used
from .settings import Settings
from .sweeps import Results, Sweep, VariantResult, sweep
from .values import Handle

__version__ = "0.1.0"

__all__ = [
    "ALWAYS", "AnyType", "as_workflow", "Blocked", "Cache", "Cancelled", "Checked", "Choice", "ClipHandle", "Conditioning",
    "connect", "Context", "did_you_mean", "Each", "Engine", "Event", "Every", "Expansion", "Graph", "GraphFlowError",
    "Grow", "Handle", "Help", "Image", "InvalidWorkflow", "Latent", "Lazy", "Link", "Mask", "Match", "ModelHandle",
    "Multiline", "Node", "node", "NodeFailed", "NodeHandle", "NodeResult", "Nodes", "NodeType", "Place", "Problem",
    "prompts", "random_prompt", "Range", "Registry", "Remote", "Result", "Results", "Rows", "run", "SavedImage",
    "Seed", "Settings", "Source", "subgraph", "Sweep", "sweep", "Ui", "UnusedInput", "Upload", "VaeHandle", "Value", "VariantResult",
    "Variants", "Wildcards", "wildcards_used", "Wire", "Workflow",
]  # fmt: skip
