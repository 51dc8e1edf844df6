"""Control networks: to be loaded, handed on to ControlNetApplyAdvanced, and compared with."""

from graphflow_nodes.foreign.control_base import ControlBase
from graphflow_nodes.foreign.control_face import ControlNetFace as ControlNet

__all__ = ["ControlBase", "ControlLora", "ControlNet", "T2IAdapter", "load_controlnet"]


class ControlLora(ControlNet):
    """Compared with; a CONTROL_NET is a `ControlNet`, whatever its layout is."""


class T2IAdapter(ControlNet):
    """Compared with."""


def load_controlnet(ckpt_path, model=None, model_options=None):
    """A CONTROL_NET."""
    from pathlib import Path

    from graphflow_nodes.families.controls import open_control

    from graphflow.spi import current_settings

    return ControlNet(open_control(Path(ckpt_path), current_settings()))
