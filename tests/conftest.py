"""Tests never reach for a network, and never for the user's own cache."""

import os

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    """What tests run from the command line is cached, in a folder of this session."""
    os.environ["GRAPHFLOW_CACHE"] = str(tmp_path_factory.mktemp("cache"))
