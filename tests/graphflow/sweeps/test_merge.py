import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphflow as gf
from graphflow.check.validate import validate
from graphflow.plan.fingerprint import fingerprints

from .conftest import texts


def test_each_different_node_runs_once_for_all_variants(engine, workflow, calls):
    results = gf.sweep(workflow, {"Sample.seed": range(4), "Sample.cfg": [3, 5, 7], "Prompt.text": ["a", "b"]}).run(
        engine
    )
    assert calls == {"Load": 1, "Encode": 2, "Sample": 24, "Save": 24}
    assert results.ran == {"1": 1, "2": 2, "3": 24, "4": 24}
    assert texts(results) == [
        f"small/{text}/{seed}/{cfg}" for seed, cfg, text in itertools.product(range(4), (3, 5, 7), "ab")
    ]


def test_variants_run_one_by_one_give_the_same(engine, workflow):
    sweep = gf.sweep(workflow, {"3.seed": range(3), "1.name": ["small", "large"], "2.text": ["a", "b"]})
    alone = [engine.run(variant.workflow)["4"].ui["text"][0] for variant in sweep.variants]
    engine.cache.clear()
    assert texts(sweep.run(engine)) == alone


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_the_plan_has_for_each_variant_the_recipes_that_it_has_alone(data):
    @gf.node("Source", version="1")
    def source(a: int = 0, b: int = 0) -> int:
        return a + b

    @gf.node("Sum", version="1", output=True)
    def add(x: int, y: int = 0, z: int = 0) -> int:
        return x + y + z

    registry = gf.Registry([source, add])
    count = data.draw(st.integers(1, 6))
    nodes = {}
    for i in range(count):
        inputs = {}
        for name in "xyz":
            if i and data.draw(st.booleans()):
                inputs[name] = [str(data.draw(st.integers(0, i - 1))), 0]
            else:
                inputs[name] = data.draw(st.integers(0, 2))
        nodes[str(i)] = {"class_type": "Sum", "inputs": inputs}
    workflow = gf.Workflow.from_json(nodes)
    places = data.draw(
        st.lists(st.sampled_from([f"{i}.{name}" for i in nodes for name in "xyz"]), min_size=1, max_size=3, unique=True)
    )
    values = st.one_of(st.integers(0, 2), st.just(["0", 0]) if count > 1 else st.nothing())
    vary = {}
    for place in places:
        allowed = st.integers(0, 2) if place.startswith("0.") else values
        vary[place] = data.draw(st.lists(allowed, min_size=1, max_size=3))
    sweep = gf.sweep(workflow, vary)
    engine = gf.Engine(registry)
    plan = sweep.plan(engine)
    seen = set()
    for variant in sweep.variants:
        order, problems = validate(variant.workflow, registry, engine.settings)
        assert not problems
        alone = fingerprints(order, engine.settings)
        outputs = plan.wanted[variant.index]
        _, prints = plan.part(outputs)
        assert [prints[output].recipe for output in outputs] == [alone[target].recipe for target in plan.targets]
        seen |= {print_.recipe for print_ in alone.values()}
    assert len(plan.nodes) == len(seen)


def test_variants_that_share_a_model_and_a_prompt_run_together(engine, workflow):
    sweep = gf.sweep(workflow, {"3.seed": range(2), "2.text": ["a", "b"], "1.name": ["small", "large"]})
    order = [tuple(sweep.variants[index].values.values()) for index in sweep.plan(engine).wanted]
    assert [(name, text) for _, text, name in order] == [
        ("small", "a"),
        ("small", "a"),
        ("small", "b"),
        ("small", "b"),
        ("large", "a"),
        ("large", "a"),
        ("large", "b"),
        ("large", "b"),
    ]


def test_an_output_of_the_graph_can_be_a_value(engine, workflow, calls):
    two = workflow + gf.Workflow.from_json({"9": {"class_type": "Load", "inputs": {"name": "large"}}})
    results = gf.sweep(two, {"2.model": [["1", 0], gf.Link("9", 0)], "3.seed": [1, 2]}).run(engine)
    assert texts(results) == ["small/a/1/5", "small/a/2/5", "large/a/1/5", "large/a/2/5"]
    assert calls["Load"] == calls["Encode"] == 2


def test_values_may_be_given_where_the_workflow_has_none(engine, workflow):
    open_ended = gf.Workflow.from_json(
        {**workflow.to_json(), "2": {"class_type": "Encode", "inputs": {"model": ["1", 0]}}}
    )
    assert texts(gf.sweep(open_ended, {"2.text": ["x", "y"]}).run(engine)) == ["small/x/1/5", "small/y/1/5"]


def test_equal_values_are_computed_once_and_each_variant_gets_its_result(engine, workflow, calls):
    assert texts(gf.sweep(workflow, {"3.seed": [5, 5, 5.0]}).run(engine)) == ["small/a/5/5"] * 3
    assert calls["Sample"] == 1


def test_an_input_that_the_node_does_not_have_is_refused_with_a_hint(engine, workflow):
    with pytest.raises(gf.InvalidWorkflow, match="sede") as error:
        gf.sweep(workflow, {"3.sede": [1]}).run(engine)
    assert "seed" in error.value.problems[0].hint


def test_a_workflow_that_is_wrong_elsewhere_is_refused_before_anything_runs(engine, workflow, calls):
    with pytest.raises(gf.InvalidWorkflow) as error:
        gf.sweep(workflow.set("1.name", "huge"), {"3.seed": range(100)}).run(engine)
    assert [problem.code for problem in error.value.problems] == ["not_a_choice"]
    assert not calls
