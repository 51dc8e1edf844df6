"""The wires of handles, for the annotations of our nodes: they carry the classes of `handles`."""

from typing import Annotated

from graphflow import Wire

from .handles import Clip, Model, Vae

__all__ = ["ClipWire", "ModelWire", "VaeWire"]

ModelWire = Annotated[Model, Wire("MODEL")]
ClipWire = Annotated[Clip, Wire("CLIP")]
VaeWire = Annotated[Vae, Wire("VAE")]
