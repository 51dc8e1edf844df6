"""One server for all tests of a file, so that its worker loads the libraries and the model once. Each test finds it
without results and with nothing to do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from graphflow_server.routes import pages

from ..conftest import Server, served


@pytest.fixture(scope="module", autouse=True)
def no_editor() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "editor_folder", lambda: None)
        yield


@pytest.fixture(scope="module")
def running(no_editor: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with served(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def serve(running: Server) -> Callable[..., Any]:
    """`with serve() as server`: the server of the file, emptied, and paused if asked for."""

    @contextmanager
    def emptied(paused: bool = False) -> Iterator[Server]:
        def jobs() -> int:
            return int(running.get("/jobs").json["pagination"]["total"])

        def active() -> int:
            return int(running.get("/jobs?status=pending,in_progress").json["pagination"]["total"])

        running.post("/queue", {"paused": True, "clear": True})
        running.post("/interrupt")
        until(lambda: active() == 0)
        running.post("/history", {"clear": True})
        until(lambda: jobs() == 0)
        running.post("/queue", {"paused": paused})
        yield running

    return emptied


def until(check: Callable[[], bool], seconds: float = 90.0) -> None:
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end
        time.sleep(0.05)
