"""A value that is not what its wire promises is refused at the node that gave it, with what was found and expected."""

from pathlib import Path

import pytest
import torch
from graphflow_nodes import wires

import graphflow as gf

from ..graphs import graph

PACK = Path(__file__).parent.parent / "data" / "odd_values"
GOOD = {
    "OddImage": ["good", "alpha", "half", "negative", "over 1"],
    "OddMask": ["good", "plain", "with a channel"],
    "OddLatent": ["good", "five axes", "half"],
    "OddConditioning": ["good", "tuples"],
    "OddFloat": ["list"],
}
BAD = {
    ("OddImage", "grey"): "a tensor [1, 16, 24, 1] of float32",
    ("OddImage", "two channels"): "a tensor [1, 16, 24, 2] of float32",
    ("OddImage", "five channels"): "a tensor [1, 16, 24, 5] of float32",
    ("OddImage", "no batch"): "a tensor [16, 24, 3] of float32",
    ("OddImage", "no channels"): "a tensor [1, 16, 24] of float32",
    ("OddImage", "NaN"): "1152 NaN of 1152 numbers",
    ("OddImage", "infinite"): "infinite of 1152 numbers",
    ("OddImage", "bytes"): "a tensor [1, 16, 24, 3] of uint8",
    ("OddImage", "list"): "list of 2",
    ("OddImage", "empty"): "a tensor [0, 16, 24, 3] of float32",
    ("OddImage", "None"): "nothing (None)",
    ("OddImage", "text"): "str 'an image'",
    ("OddImage", "channels first"): "a tensor [1, 3, 16, 24] of float32",
    ("OddMask", "channel last"): "a tensor [1, 8, 8, 1] of float32",
    ("OddMask", "NaN"): "64 NaN of 64 numbers",
    ("OddMask", "boolean"): "a tensor [1, 8, 8] of bool",
    ("OddLatent", "None"): "nothing (None)",
    ("OddLatent", "tensor"): "a tensor [1, 4, 8, 8] of float32",
    ("OddLatent", "no samples"): "a dict with 'x'",
    ("OddLatent", "samples None"): "`samples` is nothing (None)",
    ("OddLatent", "NaN"): "256 NaN of 256 numbers",
    ("OddLatent", "mask is a text"): "`noise_mask` is str 'left'",
    ("OddConditioning", "None"): "nothing (None)",
    ("OddConditioning", "empty"): "an empty list",
    ("OddConditioning", "tensor"): "a tensor [1, 77, 8] of float32",
    ("OddConditioning", "text"): "an embedding that is str 'a prompt'",
    ("OddConditioning", "no options"): "an entry of 1 parts",
    ("OddConditioning", "NaN"): "616 NaN of 616 numbers",
}


@pytest.fixture
def engine(tmp_path):
    with gf.Engine(gf.Registry.installed([PACK]), gf.Settings(output_dir=tmp_path, input_dir=tmp_path)) as engine:
        yield engine


@pytest.mark.parametrize(("kind", "case"), BAD)
def test_a_wrong_value_fails_at_the_node_that_gave_it(engine, kind, case):
    with pytest.raises(gf.NodeFailed) as error:
        engine.run(graph(giver=(kind, {"kind": case}), taker=("Take", {"needed": "@giver"})))
    (problem,) = error.value.problems
    assert (problem.code, problem.node) == ("bad_value", "giver")
    assert BAD[kind, case] in problem.message and "; expected " in problem.message


@pytest.mark.parametrize(("kind", "case"), [(kind, case) for kind, cases in GOOD.items() for case in cases])
def test_the_forms_that_packs_have_for_a_value_pass(engine, kind, case):
    engine.run(graph(giver=(kind, {"kind": case}), taker=("Take", {"needed": "@giver"})))


def test_nothing_may_go_into_an_input_that_can_do_without(engine):
    taken = engine.run(
        graph(
            one=("OddImage", {"kind": "good"}),
            none=("OddImage", {"kind": "None"}),
            taker=("Take", {"needed": "@one", "other": "@none"}),
        )
    )
    assert taken["taker"].ui["text"] == ["None"]


def test_numbers_that_are_not_finite_leave_no_file(engine, tmp_path):
    with pytest.raises(gf.NodeFailed, match="NaN"):
        engine.run(graph(giver=("OddImage", {"kind": "NaN"}), save=("SaveImage", {"images": "@giver"})))
    assert not list(tmp_path.rglob("*.png"))


def test_a_node_of_a_user_is_checked_by_its_annotations():
    @gf.node("Wrong")
    def wrong(kind: str) -> gf.Image:
        """Gives a text for an image."""
        return kind

    @gf.node("Count")
    def count(text: str) -> int:
        """Gives a text for a number."""
        return text

    @gf.node("Show", output=True)
    def show(a: gf.AnyType = None, b: gf.AnyType = None) -> gf.Ui:
        """Ends the graph."""
        return gf.Ui({})

    with gf.Engine(gf.Registry([wrong, count, show])) as engine:
        for key, kind, expected in (("a", "Wrong", "an IMAGE"), ("b", "Count", "a whole number")):
            inputs = {"kind": "x"} if kind == "Wrong" else {"text": "x"}
            with pytest.raises(gf.NodeFailed) as error:
                engine.run(graph(giver=(kind, inputs), show=("Show", {key: "@giver"})))
            assert error.value.problems[0].node == "giver"
            assert f"{kind} gave str 'x' on its output 0; expected {expected}" in error.value.problems[0].message


def test_a_list_of_values_is_checked_item_by_item():
    @gf.node("Several")
    def several() -> gf.Each[gf.Image]:
        """The second one is wrong."""
        return [torch.zeros(1, 4, 4, 3), torch.zeros(4, 4, 3)]

    @gf.node("Show", output=True)
    def show(image: gf.Image) -> gf.Ui:
        """Ends the graph."""
        return gf.Ui({})

    with gf.Engine(gf.Registry([several, show])) as engine, pytest.raises(gf.NodeFailed, match=r"\[4, 4, 3\]"):
        engine.run(graph(giver=("Several", {}), show=("Show", {"image": "@giver"})))


def test_huge_numbers_are_finite():
    assert wires.image(torch.full((1, 4, 4, 3), 3e38)) is None
    assert wires.latent({"samples": torch.full((1, 4, 64, 64), 6e4, dtype=torch.float16)}) is None
