"""The display of a run on a terminal and in a pipe."""

import io

from rich.console import Console

import graphflow as gf
from graphflow.events import ModelEvent, NodeDone, NodeStarted, RunDone, RunStarted
from graphflow.look.progress import Display


def shown(*events):
    text = io.StringIO()
    workflow = gf.Workflow.from_json({"1": {"class_type": "Load", "inputs": {}}})
    with Display(workflow, Console(file=text, width=100)) as display:
        for event in events:
            display.show(event)
    return text.getvalue()


def test_the_time_of_loading_models_and_importing_libraries_stands_apart():
    loaded = ModelEvent("m.safetensors", "denoiser", "float32", 4 << 20, "loaded", "cpu", seconds=1.25)
    reused = ModelEvent("m.safetensors", "denoiser", "float32", 4 << 20, "reused", "cpu", seconds=0.0)
    begin = RunStarted(("1",), ()), NodeStarted("1")
    end = NodeDone("1", 0.5), RunDone("done", 2.0, importing=0.25)
    assert "done in 2.00 s  1 ran, 1.25 s loading models, 0.25 s importing" in shown(*begin, loaded, reused, *end)
    assert "loading" not in shown(*begin, reused, NodeDone("1", 0.5), RunDone("done", 0.5))


def test_a_run_that_waits_for_libraries_shows_it_while_it_waits():
    seconds: list[float | None] = [None]
    screen = Console(file=io.StringIO(), force_terminal=True, width=80)
    workflow = gf.Workflow.from_json({"1": {"class_type": "KSampler", "inputs": {}}})
    display = Display(workflow, screen, importing=lambda: seconds[0])
    display.show(RunStarted(("1",), ()))
    display.show(NodeStarted("1"))

    def drawn() -> str:
        with screen.capture() as capture:
            screen.print(display._table())
        return capture.get()

    assert "importing" not in drawn()
    seconds[0] = 12.4
    assert "importing libraries, once in a process: 12 s" in drawn()
    display.show(RunDone("done", 20.0, importing=13.0))
    assert "once in a process" not in drawn() and "13.00 s importing libraries" in drawn()
