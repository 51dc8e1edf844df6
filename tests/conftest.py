"""Tests never reach for a network, and never for the user's own cache."""

import os

import pytest

collect_ignore = ["graphflow/foreign/published"]  # node packs of others
os.environ["HF_HUB_OFFLINE"] = "1"
# Tests start processes that compute side by side; threads of one computation would wait for each other's.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    """What tests run from the command line is cached, in a folder of this session."""
    os.environ["GRAPHFLOW_CACHE"] = str(tmp_path_factory.mktemp("cache"))
