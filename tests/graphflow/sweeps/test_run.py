from threading import Barrier
from threading import Event as Flag
from typing import Annotated

import pytest

import graphflow as gf
from graphflow.events import NodeDone, RunDone, RunStarted

from .conftest import texts


def test_results_come_as_they_are_done_and_stand_in_the_order_of_the_sweep(engine, workflow):
    seen = []
    results = gf.sweep(workflow, {"3.seed": range(100)}).run(engine, on_result=lambda item: seen.append(item.index))
    assert sorted(seen) == list(range(100))
    assert [item.index for item in results] == list(range(100))
    assert texts(results)[42] == "small/a/42/5"


def test_a_failing_variant_is_reported_with_its_values_and_the_others_finish(engine, workflow, calls):
    sweep = gf.sweep(workflow.set("3.bad_seed", 2), {"3.seed": range(4), "2.text": ["a", "b"]})
    results = sweep.run(engine)
    assert [item.index for item in results.failed] == [4, 5]
    assert [list(item.values.values()) for item in results.failed] == [[2, "a"], [2, "b"]]
    assert "seed 2 is unlucky" in results.failed[0].problems[0].message
    assert results.failed[0].problems[0].node == "3"
    assert calls["Save"] == 6


def test_a_value_that_no_node_takes_fails_its_variants_before_anything_runs_and_no_others(engine, workflow):
    seen = []
    results = gf.sweep(workflow, {"3.cfg": [5.0, -1.0, "much"], "3.seed": [1, 2]}).run(
        engine, on_result=lambda item: seen.append(item.index)
    )
    assert seen[:4] == [2, 3, 4, 5]
    assert [item.problems[0].code for item in results.failed] == ["out_of_range"] * 2 + ["wrong_type"] * 2
    assert texts(results)[:2] == ["small/a/1/5", "small/a/2/5"]


def test_variants_that_cannot_run_are_results_with_their_values_even_if_all_are(engine, workflow, calls):
    results = gf.sweep(workflow, {"3.cfg": [-1.0, -2.0]}).run(engine)
    rows = results.rows()
    assert [row["cfg"] for row in rows] == [-1.0, -2.0] and len(results.failed) == 2 and not calls
    assert all("node 3 (Sample), input 'cfg'" in row["error"] for row in rows)


def test_a_workflow_that_is_wrong_whatever_varies_is_told_at_once(engine, workflow, calls):
    with pytest.raises(gf.InvalidWorkflow) as error:
        gf.sweep(workflow.set("3.cfg", -1.0), {"3.seed": range(5)}).run(engine)
    assert len(error.value.problems) == 1 and not calls


def test_a_failure_that_all_have_in_common_fails_all_of_them(engine, workflow):
    results = gf.sweep(workflow.set("3.seed", 1).set("3.bad_seed", 1), {"4.prefix": [str(i) for i in range(80)]}).run(
        engine
    )
    assert len(results.failed) == 80
    assert all(len(item.problems) == 1 for item in results.failed)


def test_each_picture_carries_the_workflow_of_its_own_variant(engine, workflow):
    for item in gf.sweep(workflow, {"3.seed": range(3), "2.text": ["a", "b"]}).run(engine):
        assert item.nodes["4"].ui["workflow"][0] == item.variant.workflow.to_json()


def test_events_are_those_of_one_run_over_the_plan(engine, workflow):
    events = []
    sweep = gf.sweep(workflow, {"3.seed": range(3)})
    sweep.run(engine, on_event=events.append)
    plan = sweep.plan(engine)
    assert isinstance(events[0], RunStarted) and set(events[0].nodes) == set(plan.nodes)
    assert isinstance(events[-1], RunDone) and events[-1].status == "done"
    done = [event.node for event in events if isinstance(event, NodeDone)]
    assert sorted(plan.node_of(node) for node in done) == ["1", "2", "3", "3", "3", "4", "4", "4"]
    assert sorted(plan.variant_of(node) for node in done if plan.node_of(node) == "3") == [0, 1, 2]


def test_a_second_sweep_computes_only_what_is_new(engine, workflow, calls):
    gf.sweep(workflow, {"3.seed": range(4)}).run(engine)
    calls.clear()
    results = gf.sweep(workflow, {"3.seed": range(6)}).run(engine)
    assert calls == {"Sample": 2, "Save": 2}
    assert len(texts(results)) == 6 and None not in texts(results)


def test_without_a_cache_what_variants_share_is_still_computed_once(workflow, engine, calls):
    with gf.Engine(engine.registry, engine.settings, gf.Cache(memory=0)) as bare:
        gf.sweep(workflow, {"3.seed": range(100), "2.text": ["a", "b"]}).run(bare)
    assert calls == {"Load": 1, "Encode": 2, "Sample": 200, "Save": 200}


def test_a_cancelled_sweep_stops_keeps_what_is_done_and_goes_on_later(engine, workflow, calls):
    cancel, seen = Flag(), []

    def stop(item):
        seen.append(item)
        if len(seen) == 5:
            cancel.set()

    sweep = gf.sweep(workflow, {"3.seed": range(200)})
    with pytest.raises(gf.Cancelled):
        sweep.run(engine, on_result=stop, cancel=cancel)
    assert 5 <= len(seen) < 200
    before = calls["Sample"]
    assert len(sweep.run(engine)) == 200
    assert calls["Sample"] == 200 and before < 200


def test_results_can_be_streamed_and_an_early_end_stops_the_sweep(engine, workflow, calls):
    sweep = gf.sweep(workflow, {"3.seed": range(500)})
    stream = sweep.stream(engine)
    first = next(stream)
    stream.close()
    assert first.nodes["4"].ui["text"] and calls["Sample"] < 500
    assert len(list(sweep.stream(engine))) == 500


def test_a_stream_raises_what_the_sweep_raises(engine, workflow):
    with pytest.raises(gf.InvalidWorkflow):
        list(gf.sweep(workflow.set("3.cfg", -1.0), {"3.seed": [1]}).stream(engine))


def test_targets_give_their_outputs(engine, workflow):
    results = gf.sweep(workflow, {"3.seed": [1, 2]}).run(engine, targets=["Sample"])
    assert [item.nodes["3"].outputs["DRAWN"] for item in results] == ["small/a/1/5", "small/a/2/5"]


def test_a_graph_is_swept_by_the_places_of_its_handles(engine):
    n = gf.Nodes(engine.registry)
    with gf.Graph(types=engine.registry) as g:
        cond = n.Encode(model=n.Load(name="small"), text="a")
        latent = n.Sample(cond=cond, seed=1, cfg=5.0)
        n.Save(latent=latent)
    results = gf.sweep(g, {latent.seed: range(2), cond.text: ["a", "b"]}).run(engine)
    assert [row["text"] for row in results.rows()] == ["a", "b", "a", "b"]
    assert [row["seed"] for row in results.rows()] == [0, 0, 1, 1]


def test_what_a_sweep_has_cached_is_explained_by_the_ids_of_the_workflow(engine, workflow):
    gf.sweep(workflow, {"3.seed": range(3)}).run(engine)
    told = {item.node: item for item in engine.explain(workflow.set("3.seed", 99))}
    assert "`seed`" in told["3"].why
    assert engine.run(workflow.set("3.seed", 2)).timings == {}


def test_all_prompts_are_encoded_before_the_samplers_that_work_together_start(tmp_path):
    events = []

    @gf.node("Encode", version="1", lane="device")
    def encode(text: str) -> Annotated[str, gf.Wire("COND")]:
        events.append("encode")
        return text

    @gf.node("Sample", version="1", lane="device", together=True)
    def sample(cond: Annotated[str, gf.Wire("COND")]) -> Annotated[str, gf.Wire("DRAWN")]:
        events.append("sample")
        met.wait(60)
        return cond

    @gf.node("Decode", version="1", lane="device", output=True)
    def decode(latent: Annotated[str, gf.Wire("DRAWN")]) -> gf.Ui:
        events.append("decode")
        return gf.Ui({"text": [latent]})

    met = Barrier(4)
    workflow = gf.Workflow.from_json(
        {
            "1": {"class_type": "Encode", "inputs": {"text": ""}},
            "2": {"class_type": "Sample", "inputs": {"cond": ["1", 0]}},
            "3": {"class_type": "Decode", "inputs": {"latent": ["2", 0]}},
        }
    )
    with gf.Engine(gf.Registry([encode, sample, decode]), gf.Settings(output_dir=tmp_path, together=4)) as engine:
        gf.sweep(workflow, {"1.text": list("abcdefgh")}).run(engine)
    assert events == ["encode"] * 8 + (["sample"] * 4 + ["decode"] * 4) * 2
