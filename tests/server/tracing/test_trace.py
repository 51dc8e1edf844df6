"""The times of prompts: as a trace for Perfetto, as spans, as numbers by worker."""

import asyncio
import json
import re
from collections import defaultdict
from dataclasses import replace

import pytest
from graphflow_server.command import trace as command
from graphflow_server.monitoring.metrics import MOST_MODELS, MOST_WORKERS, Metrics
from graphflow_server.queue import PromptQueue, QueueSettings, Submission, WorkerConfig
from graphflow_server.tracing.spans import Spans
from graphflow_server.tracing.trace import chrome_trace

from graphflow import InvalidWorkflow, Workflow
from graphflow.cli import main

GRAPH = Workflow.load("workflows/text_to_image.json").set("EmptyLatentImage.batch_size", 1)


def work(seed):
    return GRAPH.set_all({"KSampler.seed": seed, "KSampler.steps": 6}).to_json()


async def written(queue, name):
    """The trace of a prompt; it is written shortly after the prompt's end."""
    for _ in range(600):
        if (found := await queue.trace(name)) is not None:
            return found
        await asyncio.sleep(0.1)
    raise AssertionError(f"no trace of {name}")


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Two prompts that shared passes: `(state folder, prompts, times, stats)`."""
    root = tmp_path_factory.mktemp("served")

    async def serve():
        worker = WorkerConfig(output_dir=root / "output", input_dir=root / "input", cache_dir=root / "cache")
        settings = QueueSettings(root / "state", worker, concurrency=2, share_passes=2)
        stats = []
        async with PromptQueue(settings) as queue:
            queue.subscribe(lambda event: event.type == "run_stats" and stats.append(event.data))
            await queue.submit(Submission(work(1), prompt_id="first"))
            assert (await queue.wait("first", 400)).passes == 1, "nothing is known of prompts like it"
            await queue.pause()
            for name in "ab":
                await queue.submit(Submission(work(ord(name)), prompt_id=name))
            await queue.resume()
            done = [await queue.wait(name, 400) for name in "ab"]
            assert [one.passes for one in done] == [2, 2], "it reported that sharing is clearly cheaper"
            times = [json.loads(await written(queue, name)) for name in "ab"]
        return done, times, [one for one in stats if one["prompt_id"] != "first"]

    return root / "state", *asyncio.run(asyncio.wait_for(serve(), 500))


def test_a_trace_has_the_nodes_steps_and_passes_of_a_prompt_within_its_run(served):
    _, (prompt, _), (times, other), _ = served
    events = chrome_trace(prompt, times)["traceEvents"]
    spans = [event for event in events if event["ph"] == "X"]
    run = next(event for event in spans if event["name"] == "runs")
    for event in spans:
        assert event["dur"] >= 0 and event["pid"] and event["tid"]
        if event["name"] not in ("waits", "runs"):
            assert run["ts"] - 1 <= event["ts"] and event["ts"] + event["dur"] <= run["ts"] + run["dur"] + 1000
    assert {"KSampler 3", "VAEDecode 8"} <= {event["name"] for event in spans}
    assert sum(event["ph"] == "i" for event in events) >= 6, "the steps of the sampler"
    passes = {event["args"]["pass"]: event["args"] for event in spans if "pass" in event["args"]}
    assert len(passes) >= 6
    shared = {number for number, args in passes.items() if args["rows of others"]}
    assert shared and shared <= {made[1] for made in other["passes"]}, "the other prompt shows them by the same number"


def is_well_formed(trace):
    """By the Trace Event Format, as Perfetto reads it."""
    assert set(trace) <= {"traceEvents", "displayTimeUnit", "otherData", "metadata"}
    assert trace["displayTimeUnit"] in ("ms", "ns")
    json.dumps(trace, allow_nan=False)
    tracks = defaultdict(list)
    for event in trace["traceEvents"]:
        assert all(isinstance(event[place], int) for place in ("pid", "tid"))
        assert event["name"] and isinstance(event["name"], str)
        match event["ph"]:
            case "M":
                assert event["name"] in ("process_name", "thread_name") and isinstance(event["args"]["name"], str)
            case "X":
                assert isinstance(event["ts"], int) and isinstance(event["dur"], int) and event["dur"] >= 0
                tracks[event["pid"], event["tid"]].append(event)
            case "i":
                assert isinstance(event["ts"], int) and event["s"] == "t"
            case other:
                raise AssertionError(f"no event of the kind {other} is expected")
    for track in tracks.values():
        open_ = []
        for event in sorted(track, key=lambda event: (event["ts"], -event["dur"])):
            while open_ and open_[-1] <= event["ts"]:
                open_.pop()
            assert not open_ or event["ts"] + event["dur"] <= open_[-1], "spans of a track overlap in part"
            open_.append(event["ts"] + event["dur"])
    return True


def test_a_trace_has_the_form_that_viewers_read(served):
    for prompt, times in zip(served[1], served[2], strict=True):
        assert is_well_formed(chrome_trace(prompt, times))
    began = served[2][0]["began"]
    jittery = [["cpu", at, began + 0.0100004 * at, 0.0100009, 4, 2, 2] for at in range(100)]
    loads = [["cpu", "file", f"part {at}", "loaded", began + 0.01 * at, 0.015] for at in range(5)]
    odd = {**served[2][0], "passes": jittery[::-1], "models": loads}
    assert is_well_formed(chrome_trace(served[1][0], odd))


def test_a_wait_in_which_an_earlier_attempt_was_cut_off_is_named_so(served):
    prompt, times = served[1][0], served[2][0]
    found = [chrome_trace(replace(prompt, attempts=count), times)["traceEvents"][2]["name"] for count in (1, 2, 3)]
    assert found == ["waits", "waits, with an earlier attempt", "waits, with 2 earlier attempts"]


@pytest.mark.parametrize("late", [-86400.0, 86400.0])
def test_the_times_of_a_worker_whose_clock_is_a_day_away_stand_in_the_time_of_the_server(served, late):
    prompt, times = served[1][0], served[2][0]
    places = {"nodes": 2, "steps": 3, "models": 4, "passes": 2}
    moved = {key: [[*one[:at], one[at] + late, *one[at + 1 :]] for one in times[key]] for key, at in places.items()}
    other = {**times, **moved, "began": times["began"] + late, "ended": times["ended"] + late}
    trace = chrome_trace(prompt, other)
    assert is_well_formed(trace)
    found = [event for event in trace["traceEvents"] if "ts" in event]
    for event in found:
        assert 1e6 * (prompt.created - 1.0) <= event["ts"] <= 1e6 * (prompt.finished + 1.0)
    wanted = [event["name"] for event in chrome_trace(prompt, times)["traceEvents"] if "ts" in event]
    assert [event["name"] for event in found] == wanted


def test_the_command_writes_the_trace_of_a_prompt_or_of_the_last_one(served, capsys):
    folder = str(served[0])
    assert main(["trace", "a", "--state-dir", folder]) == 0
    assert json.loads(capsys.readouterr().out)["otherData"] == {"prompt_id": "a"}
    assert main(["trace", "last", "--state-dir", folder]) == 0
    assert json.loads(capsys.readouterr().out)["traceEvents"]
    assert main(["trace", "unknown", "--state-dir", folder]) != 0
    assert "no times of unknown" in capsys.readouterr().err


def test_a_trace_of_nothing_is_refused_with_what_to_do(tmp_path):
    import argparse

    with pytest.raises(InvalidWorkflow) as error:
        command.run(argparse.Namespace(prompt="last", state_dir=tmp_path))
    assert "--state-dir" in error.value.problems[0].hint


def test_a_pass_is_one_span_that_is_linked_to_the_prompts_in_it(served):
    sdk = pytest.importorskip("opentelemetry.sdk.trace")
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    _, prompts, times, _ = served
    provider, found = sdk.TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(found))
    spans = Spans(provider)
    for prompt, of in zip(prompts, times, strict=True):
        spans.note(prompt, of)
    written = found.get_finished_spans()
    whole = {span.attributes["graphflow.prompt"]: span for span in written if span.name == "prompt"}
    assert set(whole) == {"a", "b"}
    ids = {span.context.span_id: name for name, span in whole.items()}
    passes = [span for span in written if span.name == "pass"]
    assert len(passes) == len({(made[0], made[1]) for of in times for made in of["passes"]}), "each once"
    linked = [sorted(ids[link.context.span_id] for link in span.links) for span in passes]
    assert ["a", "b"] in linked and all(span.parent is None for span in passes)
    sampler = next(span for span in written if span.attributes.get("graphflow.class_type") == "KSampler")
    assert len(sampler.events) >= 6 and sampler.end_time > sampler.start_time


def test_passes_are_counted_by_worker_device_and_size_and_their_time_by_model(served):
    metrics = Metrics()
    for stats in served[3]:
        metrics.take_run(stats)
    text = metrics.text().decode()
    assert 'graphflow_passes_total{device="cpu",size="4",worker="local"}' in text
    assert 'graphflow_pass_rows_total{device="cpu",worker="local"} 24.0' in text, (
        "6 steps of two prompts, two rows each"
    )
    assert 'graphflow_models_total{action="reused",device="cpu",worker="local"}' in text
    (seconds,) = re.findall(
        r'graphflow_pass_seconds_total\{device="cpu",model="graphflow-tiny[^"]* denoiser",worker="local"\} (.+)',
        text,
    )
    assert float(seconds) == pytest.approx(sum(stats["passes"]["seconds"] for stats in served[3]))


def test_a_label_has_a_bounded_number_of_models():
    metrics = Metrics()
    stats = {"seconds": 1.0, "cached": 0, "steps": 0, "nodes": {}, "models": {}}
    for at in range(MOST_MODELS + 50):
        made = {"rows": 1, "waited": 0.0, "sizes": {}, "models": {f"model {at}": 1.0}}
        metrics.take_run({**stats, "passes": {"devices": {"cpu": made}}})
    lines = [line for line in metrics.text().decode().splitlines() if line.startswith("graphflow_pass_seconds_total")]
    assert len(lines) == MOST_MODELS + 1
    assert 'graphflow_pass_seconds_total{device="cpu",model="other",worker=""} 50.0' in lines


def test_a_label_has_a_bounded_number_of_workers_though_machines_come_and_go():
    metrics = Metrics()
    made = {"rows": 1, "waited": 0.0, "sizes": {}, "models": {}}
    stats = {"seconds": 1.0, "cached": 0, "steps": 0, "nodes": {}, "models": {}, "passes": {"devices": {"cpu": made}}}
    for at in range(MOST_WORKERS + 50):
        metrics.take_run({**stats, "worker": f"@pod {at}"})
    lines = [line for line in metrics.text().decode().splitlines() if line.startswith("graphflow_pass_rows_total")]
    assert len(lines) == MOST_WORKERS + 1
    assert 'graphflow_pass_rows_total{device="cpu",worker="other"} 50.0' in lines
