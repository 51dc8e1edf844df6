"""A small Stable Diffusion 1.x in every form in which a user may have one."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest
from graphflow_nodes.families import load

spec = importlib.util.spec_from_file_location("small_checkpoint", Path(__file__).with_name("small_checkpoint.py"))
small = importlib.util.module_from_spec(spec)
spec.loader.exec_module(small)


@pytest.fixture(scope="session")
def small_weights():
    return small.small_weights()


@pytest.fixture(scope="session")
def small_models(tmp_path_factory, small_weights):
    """A models folder, laid out as the field does, and the configs that go with it."""
    root = tmp_path_factory.mktemp("small")
    models = root / "models"
    small.write(models / "checkpoints" / "small.safetensors", small_weights)
    small.write(models / "checkpoints" / "old" / "small.ckpt", small_weights)
    vae = {name.removeprefix(small_vae): value for name, value in small_weights.items() if name.startswith(small_vae)}
    small.write(models / "vae" / "small_vae.safetensors", vae)
    return SimpleNamespace(models=models, configs=small.small_configs(root / "configs"))


small_vae = "first_stage_model."


@pytest.fixture
def small_sd15(small_models, monkeypatch):
    """The loaders take every single file for the small model."""
    monkeypatch.setattr(load, "SD15", small_models.configs)
    return small_models
