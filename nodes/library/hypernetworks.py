"""Hypernetworks: small networks from files that change the attention of Stable Diffusion."""

from typing import Annotated, Any

from graphflow import Choice, Range, Settings, node

from ..families.check_files import file_check
from ..model.wires import ModelWire
from .loaders import folders

KIND = "hypernetworks"


def _names(settings: Settings) -> list[str]:
    return folders(settings).list(KIND)


def _digest(settings: Settings, hypernetwork_name: str, **_: Any) -> str:
    return settings.digests.of(folders(settings).find(KIND, hypernetwork_name))


@node(
    "HypernetworkLoader",
    category="loaders",
    display_name="HypernetworkLoader",
    version="1",
    outside=_digest,
    check=file_check(KIND, "hypernetwork", "hypernetwork_name"),
)
def hypernetwork_loader(
    settings: Settings,
    model: ModelWire,
    hypernetwork_name: Annotated[str, Choice(_names, "models/hypernetworks")],
    strength: Annotated[float, Range(-10.0, 10.0, 0.01)] = 1.0,
) -> ModelWire:
    """Change what a U-Net (Stable Diffusion 1.x, 2.x, XL) makes its keys and values of, by the networks of a file."""
    from ..files.header import read_header
    from ..patches.hypernetwork import hypernetwork_of

    path = folders(settings).find(KIND, hypernetwork_name)
    patch = hypernetwork_of(read_header(path), settings.digests.of(path), strength, model)
    return model.with_patch(patch) if strength else model
