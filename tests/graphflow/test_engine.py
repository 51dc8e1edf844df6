"""What a caller asks an engine for, what it gets, and what happens when the caller's own function fails."""

import threading

import pytest

import graphflow as gf


@gf.node("Number", version="1")
def number(value: int = 1) -> int:
    return value


@gf.node("Show", version="1", output=True)
def show(value: int) -> gf.Ui:
    return gf.Ui({"value": [value]})


@gf.node("Steps", version="1", output=True)
def steps(context: gf.Context, value: int = 1) -> gf.Ui:
    for step in range(5):
        context.progress(step, 5)
    return gf.Ui({"value": [value]})


@pytest.fixture
def registry():
    return gf.Registry([number, show, steps])


@pytest.fixture
def engine(registry, tmp_path):
    with gf.Engine(registry, gf.Settings(output_dir=tmp_path)) as engine:
        yield engine


WORKFLOW = gf.Workflow.from_json(
    {
        "a": {"class_type": "Number", "inputs": {"value": 3}},
        "b": {"class_type": "Show", "inputs": {"value": ["a", 0]}},
        "c": {"class_type": "Steps", "inputs": {}},
    }
)


@pytest.mark.parametrize("targets", ["Show", "b", ["b"], ("Show",), {"b": 1}, iter(["b"])])
def test_one_target_may_stand_alone(engine, targets):
    assert list(engine.run(WORKFLOW, targets=targets)) == ["b"]


def test_a_node_of_a_graph_is_a_target_and_finds_its_result(engine, registry):
    nodes = gf.Nodes(registry)
    with gf.Graph() as graph:
        first = nodes.Number(value=7)
        shown = nodes.Show(value=first)
        other = nodes.Show(value=8)
    for targets in (shown, [shown], [shown, first]):
        result = engine.run(graph, targets=targets)
        assert result[shown].ui == {"value": [7]} and shown in result and other not in result
    assert result[first].outputs == {"INT": 7}
    assert engine.check(graph, targets=shown).outputs == (shown.node_id,)


@pytest.mark.parametrize("targets", [3, [None], [3.5]])
def test_a_target_that_names_no_node_is_a_problem(engine, targets):
    with pytest.raises(gf.InvalidWorkflow) as caught:
        engine.run(WORKFLOW, targets=targets)
    assert [problem.code for problem in caught.value.problems] == ["not_a_node"]


@pytest.mark.parametrize("source", [None, 3, ["a"]])
@pytest.mark.parametrize("call", ["run", "check", "validate", "explain"])
def test_what_is_not_a_workflow_is_a_problem(engine, source, call):
    with pytest.raises(gf.InvalidWorkflow) as caught:
        getattr(engine, call)(source)
    (problem,) = caught.value.problems
    assert problem.code == "not_a_workflow" and problem.hint


@pytest.mark.parametrize("at", ["NodeStarted", "Progress", "NodeDone", "RunDone"])
def test_what_a_listener_raises_comes_out_of_the_run_as_it_is_and_blames_no_node(engine, at):
    seen, flag = [], threading.Event()

    def listen(event):
        seen.append(type(event).__name__)
        if seen[-1] == at:
            raise ZeroDivisionError("in the listener")

    with pytest.raises(ZeroDivisionError, match="in the listener"):
        engine.run(WORKFLOW, targets="c", on_event=listen, cancel=flag)
    assert seen.count(at) == 1 and seen[-1] == at and "NodeError" not in seen
    assert not flag.is_set(), "the caller's own flag may be that of other runs, too"
    assert engine.run(WORKFLOW, targets="c")["c"].ui == {"value": [1]}


def test_a_run_whose_listener_failed_stops_before_the_next_node(registry, tmp_path):
    calls = []

    @gf.node("Count", version="1")
    def count(value: int) -> int:
        calls.append(value)
        return value + 1

    registry.add(count)
    chain = {str(i): {"class_type": "Count", "inputs": {"value": [str(i - 1), 0] if i else 0}} for i in range(6)}

    def listen(event):
        if type(event).__name__ == "NodeDone" and event.node == "2":
            raise ZeroDivisionError

    with gf.Engine(registry, gf.Settings(output_dir=tmp_path)) as engine, pytest.raises(ZeroDivisionError):
        engine.run(chain, targets="5", on_event=listen)
    assert calls == [0, 1, 2]


def test_the_listener_of_a_sweep_may_fail_too(registry, tmp_path):
    def listen(event):
        raise ZeroDivisionError

    with gf.Engine(registry, gf.Settings(output_dir=tmp_path)) as engine, pytest.raises(ZeroDivisionError):
        gf.sweep(WORKFLOW, {"c.value": [1, 2]}).run(engine, on_event=listen)


def test_two_engines_with_other_output_folders_share_no_previews(tmp_path):
    one, two = gf.Settings(output_dir=tmp_path / "one"), gf.Settings(output_dir=tmp_path / "two")
    assert one.temp_dir != two.temp_dir and one.temp_dir.is_relative_to(one.output_dir)
    assert gf.Settings(output_dir=tmp_path, temp_dir="elsewhere").temp_dir == gf.Settings(temp_dir="elsewhere").temp_dir


def test_settings_can_be_sent_to_another_process(tmp_path):
    import pickle

    (tmp_path / "file").write_text("text")
    settings = gf.Settings(output_dir=tmp_path, together=3)
    again = pickle.loads(pickle.dumps(settings))
    assert again == settings
    assert again.digests.of(tmp_path / "file") == settings.digests.of(tmp_path / "file")


def test_results_of_a_sweep_are_shown_in_a_line(registry, tmp_path):
    with gf.Engine(registry, gf.Settings(output_dir=tmp_path)) as engine:
        results = gf.sweep(WORKFLOW, {"Number.value": range(20)}).run(engine)
    assert len(repr(results)) < 80 and "20 variants" in repr(results)


def test_explanations_of_nodes_with_one_title_are_told_apart(engine):
    two = {key: {"class_type": "Show", "inputs": {"value": value}} for key, value in (("x", 1), ("y", 2))}
    texts = [str(item) for item in engine.explain(two)]
    assert len(set(texts)) == 2 and all(len(text) < 100 for text in texts)
    assert texts[0].startswith("Show [x]: miss")
