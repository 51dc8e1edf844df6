"""Values and graphs of a run."""

from graphflow import Blocked as ExecutionBlocker
from graphflow.spi import DynamicGraph as DynamicPrompt

__all__ = ["DynamicPrompt", "ExecutionBlocker"]
