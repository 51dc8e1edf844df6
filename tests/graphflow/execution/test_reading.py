"""Large files are read once before a run: that is told, and a cancelled run does not wait for it."""

from __future__ import annotations

import hashlib
from io import StringIO
from pathlib import Path
from threading import Event as Flag

import pytest
from rich.console import Console

import graphflow as gf
from graphflow.events import Reading, RunDone
from graphflow.execution import reading
from graphflow.files import digests
from graphflow.look.progress import Display


def digest(settings: gf.Settings, path: str) -> str:
    return settings.digests.of(Path(path))


@gf.node("SizeOf", version="1", outside=digest, output=True)
def size_of(path: str) -> gf.Ui:
    """How large a file is."""
    return gf.Ui({"size": [Path(path).stat().st_size]})


@pytest.fixture
def large(tmp_path, monkeypatch):
    """A file of 8 MB, of whose reading every piece is told."""
    monkeypatch.setattr(reading, "EVERY", 0.0)
    monkeypatch.setattr(digests, "RACY_NS", 0)
    path = tmp_path / "large.ckpt"
    path.write_bytes(bytes(8 << 20))
    return path


def workflow(path):
    return gf.Workflow.from_json({"1": {"class_type": "SizeOf", "inputs": {"path": str(path)}}})


def test_the_reading_of_a_large_file_is_told_piece_by_piece(large):
    events = []
    with gf.Engine(gf.Registry([size_of])) as engine:
        engine.run(workflow(large), on_event=events.append)
    told = [event for event in events if isinstance(event, Reading)]
    assert [event.done for event in told] == [piece << 20 for piece in range(1, 9)]
    assert {(event.file, event.total) for event in told} == {("large.ckpt", 8 << 20)}


def test_a_run_that_is_cancelled_while_a_file_is_read_ends_there(large):
    cancel, events = Flag(), []

    def stop_at_the_second(event):
        events.append(event)
        if len(events) == 2:
            cancel.set()

    with gf.Engine(gf.Registry([size_of])) as engine, pytest.raises(gf.Cancelled):
        engine.run(workflow(large), on_event=stop_at_the_second, cancel=cancel)
    assert [type(event) for event in events] == [Reading, Reading, RunDone]
    assert events[-1].status == "cancelled"


def test_a_sweep_that_is_cancelled_while_a_file_is_read_ends_there(large):
    cancel = Flag()
    with gf.Engine(gf.Registry([size_of])) as engine, pytest.raises(gf.Cancelled):
        found = gf.sweep(workflow(large), {"1.path": [str(large)]})
        found.run(engine, on_event=lambda event: cancel.set(), cancel=cancel)


def test_a_watched_digest_is_the_digest_of_the_file(large):
    settings = reading.watched(gf.Settings(), Flag(), lambda _: None)
    assert settings.digests.of(large) == hashlib.sha256(large.read_bytes()).hexdigest()


def test_the_display_tells_which_file_is_read_and_that_a_run_is_being_cancelled():
    cancel, screen = Flag(), StringIO()
    console = Console(file=screen, force_terminal=True, width=80)
    display = Display(workflow("x"), console, cancel)
    display.show(Reading("big.ckpt", 1 << 30, 6 << 30))
    console.print(display._table())
    assert "reading big.ckpt, 1.0 of 6.0 GB" in screen.getvalue() and "cancelling" not in screen.getvalue()
    cancel.set()
    console.print(display._table())
    assert "cancelling" in screen.getvalue()
