"""Control networks: to be loaded, handed on to ControlNetApplyAdvanced, and compared with."""

from graphflow_nodes.model.handles import ControlNet

__all__ = ["ControlBase", "ControlLora", "ControlNet", "T2IAdapter", "load_controlnet"]


class ControlBase:
    """Compared with; a CONTROL_NET is a handle and none of these."""


class ControlLora(ControlBase):
    """A Control-LoRA."""


class T2IAdapter(ControlBase):
    """A T2I-Adapter."""


def load_controlnet(ckpt_path, model=None, model_options=None):
    """A CONTROL_NET."""
    from pathlib import Path

    from graphflow_nodes.families.controls import open_control

    from graphflow.spi import current_settings

    return open_control(Path(ckpt_path), current_settings())
