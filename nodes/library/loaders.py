"""Loaders give handles: what to load, not the weights. The weights are loaded when the first node needs them."""

from functools import partial
from pathlib import Path
from typing import Annotated, NamedTuple

from graphflow import Choice, ClipHandle, ModelHandle, Settings, VaeHandle, node

from ..families.handles import Clip, Model, Source, Vae
from ..files.folders import ModelFolders
from ..files.header import check_checkpoint, check_vae


def folders(settings: Settings) -> ModelFolders:
    return ModelFolders(list(settings.models))


def _checkpoints(settings: Settings) -> list[str]:
    return folders(settings).list("checkpoints")


def _vaes(settings: Settings) -> list[str]:
    return folders(settings).list("vae")


def _checkpoint_digest(settings: Settings, ckpt_name: str) -> str:
    return settings.digests.of(folders(settings).find("checkpoints", ckpt_name))


def _vae_digest(settings: Settings, vae_name: str) -> str:
    return settings.digests.of(folders(settings).find("vae", vae_name))


class Checkpoint(NamedTuple):
    MODEL: ModelHandle
    CLIP: ClipHandle
    VAE: VaeHandle


@node(
    "CheckpointLoaderSimple",
    category="loaders",
    display_name="Load Checkpoint",
    version="1",
    outside=_checkpoint_digest,
)
def checkpoint_loader_simple(
    settings: Settings, ckpt_name: Annotated[str, Choice(_checkpoints, "models/checkpoints")]
) -> Checkpoint:
    """Take the U-Net, the text encoder and the VAE out of one checkpoint.

    A checkpoint is a single .safetensors (.ckpt, .pt) in LDM layout, or a diffusers folder.
    """
    path = folders(settings).find("checkpoints", ckpt_name)
    check_checkpoint(path)
    source = _source(settings, path, "ldm")
    return Checkpoint(Model(source), Clip(source), Vae(source))


@node("VAELoader", category="loaders", display_name="Load VAE", version="1", outside=_vae_digest)
def vae_loader(settings: Settings, vae_name: Annotated[str, Choice(_vaes, "models/vae")]) -> VaeHandle:
    """Take a VAE out of a file or a diffusers folder of its own."""
    path = folders(settings).find("vae", vae_name)
    check_vae(path)
    return Vae(_source(settings, path, "vae"))


def _source(settings: Settings, path: Path, kind: str) -> Source:
    digest_now = partial(settings.digests.of, path)
    return Source(str(path), "diffusers" if path.is_dir() else kind, digest_now(), digest_now)
