"""Tests never reach for a network, and never for the user's own cache."""

import os

import pytest
from hypothesis import settings

from tests.longest import longest_first

# No random test is a timed one: the machine may be busy with others.
settings.register_profile("without deadlines", deadline=None)
settings.load_profile("without deadlines")
collect_ignore = ["graphflow/foreign/published"]  # node packs of others
os.environ["HF_HUB_OFFLINE"] = "1"
# Tests start processes that compute side by side; threads of one computation would wait for each other's.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(config, items):
    """Where several processes share the tests, files that take long begin first."""
    if hasattr(config, "workerinput"):
        items[:] = longest_first(items)


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    """What tests run from the command line is cached, in a folder of this session."""
    os.environ["GRAPHFLOW_CACHE"] = str(tmp_path_factory.mktemp("cache"))
