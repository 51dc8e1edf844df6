"""The time of importing libraries and of loading models is not a node's own."""

from __future__ import annotations

import sys
import threading
import time
from importlib import import_module

import pytest

import graphflow as gf
from graphflow.execution.imports import ImportClock
from graphflow.spi import ModelEvent


@pytest.fixture
def slow_library(tmp_path, monkeypatch):
    """A library whose code takes 0.3 s, and that imports another one of 0.2 s."""
    (tmp_path / "slow_outer.py").write_text("import time, slow_inner\ntime.sleep(0.3)\n")
    (tmp_path / "slow_inner.py").write_text("import time\ntime.sleep(0.2)\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "slow_outer"
    for name in ("slow_outer", "slow_inner"):
        sys.modules.pop(name, None)


def result_of(function, **options):
    with gf.Graph(nodes=[function]) as graph:
        getattr(graph.nodes, function.__name__.capitalize())()
    return graph.run(cache=None, **options)


def test_importing_is_not_a_nodes_own_time_and_stands_in_the_result(slow_library):
    @gf.node("Importer", output=True)
    def importer() -> gf.Ui:
        import_module(slow_library)
        time.sleep(0.05)
        return gf.Ui({})

    events = []
    result = result_of(importer, on_event=events.append)
    assert result.importing >= 0.5 and 0.05 <= result.timings["Importer"] <= result.seconds - result.importing
    done = next(event for event in events if isinstance(event, gf.NodeDone)).to_json()
    assert done["importing"] >= 0.5 and done["seconds"] == result.timings["Importer"]
    assert events[-1].importing == result.importing


def test_loading_a_model_is_not_a_nodes_own_time_and_importing_within_it_counts_once(slow_library):
    @gf.node("Loader", output=True, lane="device")
    def loader(settings: gf.Settings) -> gf.Ui:
        began = time.perf_counter()
        time.sleep(0.1)
        import_module(slow_library)
        seconds = time.perf_counter() - began
        settings.notify(ModelEvent("m.safetensors", "vae", "float32", 1, "loaded", "cpu", seconds))
        return gf.Ui({})

    result = result_of(loader)
    assert 0.1 <= result.loading["Loader"] < 0.4 and result.importing >= 0.5
    assert result.timings["Loader"] <= result.seconds - result.loading["Loader"] - result.importing
    assert [event.file for event in result.models] == ["m.safetensors"]


def test_a_thread_that_waits_for_another_ones_import_is_not_charged_for_it(slow_library):
    with ImportClock() as clock:
        began = time.perf_counter()
        threads = [threading.Thread(target=import_module, args=(slow_library,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        ended = time.perf_counter()
    assert clock.seconds == pytest.approx(clock.within(began, ended)) and 0.5 <= clock.seconds <= ended - began
    assert clock.within(ended, ended + 1) == 0.0


def test_the_finders_of_modules_are_as_before_when_runs_have_ended(slow_library):
    before = list(sys.meta_path)
    with ImportClock() as one, ImportClock() as other:
        module = import_module(slow_library)
    assert sys.meta_path == before and one.seconds >= 0.5 and other.seconds >= 0.5
    assert module.__spec__.loader.get_source(slow_library).startswith("import time")
    with ImportClock() as clock, pytest.raises(ModuleNotFoundError):
        import_module("no_such_library_anywhere")
    assert clock.seconds == 0.0


def test_a_thread_that_waited_for_a_package_which_replaces_itself_finds_its_names(tmp_path, monkeypatch):
    """transformers does so: two prompts that need it first, at the same time, both get it."""
    (tmp_path / "replaces_itself.py").write_text(
        "import sys, types\n"
        "class Lazy(types.ModuleType):\n"
        "    def __getattr__(self, name):\n"
        "        if name == 'late':\n"
        "            return 42\n"
        "        raise AttributeError(name)\n"
        "lazy = Lazy(__name__)\n"
        "lazy.first = sys.modules[__name__]\n"
        "sys.modules[__name__] = lazy\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    try:
        with ImportClock():
            lazy = import_module("replaces_itself")
        assert lazy.first is not lazy and lazy.first.late == 42
        with pytest.raises(AttributeError, match="never"):
            _ = lazy.first.never
    finally:
        sys.modules.pop("replaces_itself", None)
