"""A small Stable Diffusion 1.x in every form in which a user may have one."""

from types import SimpleNamespace

import pytest
import torch

from . import tiny as t


@pytest.fixture(scope="session")
def small_sd1():
    return t.tiny("sd1")


@pytest.fixture(scope="session")
def small(tmp_path_factory, small_sd1):
    """A models folder, laid out as users have it."""
    models = tmp_path_factory.mktemp("small") / "models"
    small_sd1.save(models / "checkpoints" / "small.safetensors")
    (models / "checkpoints" / "old").mkdir()
    torch.save({"state_dict": small_sd1.weights}, models / "checkpoints" / "old" / "small.ckpt")
    vae = {name.removeprefix(t.VAE): value for name, value in small_sd1.weights.items() if name.startswith(t.VAE)}
    t.Tiny(None, vae, {}).save(models / "vae" / "small_vae.safetensors")
    return SimpleNamespace(models=models)
