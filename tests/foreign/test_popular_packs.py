"""What popular packs do and no documentation asks for works: sockets that are equal to everything, choices of numbers."""

import json
from pathlib import Path

import pytest

import graphflow as gf
from graphflow.cli import main
from graphflow.formats.object_info import describe

from ..graphs import graph

PACKS = Path(__file__).parent / "packs"


@pytest.fixture(scope="module")
def registry():
    registry = gf.Registry.installed([PACKS])
    assert not [problem.message for problem in registry.problems if "popular" in problem.message]
    return registry


@pytest.fixture
def engine(registry, tmp_path):
    settings = gf.Settings(output_dir=tmp_path / "output", input_dir=tmp_path / "input", temp_dir=tmp_path / "temp")
    (tmp_path / "input").mkdir()
    with gf.Engine(registry, settings) as engine:
        yield engine


def shown(engine, **nodes):
    return engine.run(graph(**nodes, out=("PreviewAny", {"source": "@last"}))).nodes["out"].ui["text"][0]


# -- sockets ------------------------------------------------------------------------------------------------------------


def test_a_type_that_is_equal_to_everything_goes_with_every_type_and_is_no_choice(engine):
    kind = engine.registry["Popular Show"]
    assert [item.type for item in kind.inputs.values()] == ["*", "*", "*"] and kind.outputs[0].type == "*"
    workflow = graph(
        image=("EmptyImage", {"width": 8, "height": 8}), text=("PrimitiveString", {"value": "x"}),
        any=("Popular Show", {"first": "@text", "second": "@image:0", "third": 3}),
        last=("StringLength", {"string": "@any"}), out=("PreviewAny", {"source": "@last"}),
    )  # fmt: skip
    result = engine.run(workflow)
    assert "('first', 'x'), ('second', tensor(" in result.nodes["any"].ui["text"][0]
    assert result.nodes["out"].ui["text"][0] == "1"


def test_a_choice_of_numbers_or_booleans_takes_what_it_lists_and_nothing_that_looks_like_it(engine):
    def steps(**inputs):
        return shown(engine, last=("Popular Steps", inputs))

    assert steps() == "[False, 1, 'all', 'a']"
    assert steps(on=True, scale=4, share=1, mode="b") == "[True, 4, 1.0, 'b']"
    for inputs in ({"on": 1}, {"on": "True"}, {"scale": True}, {"scale": "2"}, {"scale": 3}, {"share": None}):
        (problem,) = engine.validate(graph(last=("Popular Steps", inputs), out=("PreviewAny", {"source": "@last"})))
        assert problem.code == "not_a_choice" and problem.input in inputs
    assert problem.hint == 'known: 0.5, 1.0, "all"'


def test_a_choice_of_numbers_is_described_as_the_field_does_and_shown_by_the_shell(engine, capsys):
    told = describe(engine.registry["Popular Steps"], engine.settings)["input"]["required"]
    assert told["on"][0] == [True, False] and told["scale"][0] == [1, 2, 4] and told["mode"][0] == ["a", "b"]
    assert main(["nodes", "Popular Steps", "--nodes", str(PACKS)]) == 0
    assert "1, 2, 4" in capsys.readouterr().out
    assert main(["nodes", "Popular Steps", "--nodes", str(PACKS), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["inputs"]["on"]["choices"] == [True, False]


def test_a_single_type_in_place_of_a_tuple_of_types_is_one_output(engine):
    assert [output.type for output in engine.registry["Popular Defaults"].outputs] == ["STRING"]
