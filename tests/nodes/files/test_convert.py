"""From a file's tensors to a network's parameters: nothing is left to chance."""

import pytest
from graphflow_nodes.files.convert import Fill, TensorPlace, convert

import graphflow as gf

PARAMETERS = {"first.weight": (4, 3), "first.bias": (4,), "attn.q.weight": (2, 6), "attn.k.weight": (2, 6)}
TABLE = {
    "": "",
    "first": "in.0",
    "attn.q.weight": TensorPlace("attn.qk", (0, 2)),
    "attn.k.weight": TensorPlace("attn.qk", (2, 4)),
}
TENSORS = {"net.in.0.weight": (4, 3), "net.in.0.bias": (4,), "net.attn.qk": (4, 6)}


def fills(tensors=TENSORS, table=TABLE, parameters=PARAMETERS, prefix="net.", **more):
    return convert(parameters, tensors, table, prefix=prefix, what="the U-Net", file="a.safetensors", **more)


def refused(*arguments, **more):
    with pytest.raises(gf.GraphFlowError) as error:
        fills(*arguments, **more)
    (problem,) = error.value.problems
    assert problem.code == "wrong_weights" and problem.message.startswith("a.safetensors: the U-Net cannot be used: ")
    return problem.message.partition("used: ")[2]


def test_every_parameter_has_its_tensor_and_slices_theirs():
    assert fills() == (
        Fill("first.weight", (4, 3), "net.in.0.weight"),
        Fill("first.bias", (4,), "net.in.0.bias"),
        Fill("attn.q.weight", (2, 6), "net.attn.qk", (0, 2)),
        Fill("attn.k.weight", (2, 6), "net.attn.qk", (2, 4)),
    )


def test_the_longest_name_of_a_module_decides():
    table = {"": "x", "a": "y", "a.b": "z"}
    found = fills({"z.c": (1,), "y.d": (1,), "x.e": (1,)}, table, {"a.b.c": (1,), "a.d": (1,), "e": (1,)}, prefix="")
    assert [fill.key for fill in found] == ["z.c", "y.d", "x.e"]


def test_tensors_of_other_parts_do_not_matter():
    assert fills({**TENSORS, "vae.x": (9,)}) == fills()


def test_a_prefix_that_was_left_on_is_refused():
    assert refused(prefix="").startswith("4 of its 4 weights are missing: the first are in.0.weight [4, 3], ")


def test_a_missing_tensor_is_named_with_its_shape():
    fewer = {name: shape for name, shape in TENSORS.items() if not name.endswith("bias")}
    assert refused(fewer) == "1 of its 4 weights is missing: net.in.0.bias [4]"


def test_a_tensor_too_many_is_named_unless_it_is_known_to_be_of_no_use():
    more = {**TENSORS, "net.logit_scale": ()}
    assert refused(more) == "1 tensor has no place in it, the first is net.logit_scale []"
    assert fills(more, unused=["logit_*"]) == fills()


def test_another_shape_is_named_with_both_shapes():
    assert refused({**TENSORS, "net.in.0.weight": (4, 9)}) == (
        "1 weight has another shape: net.in.0.weight is [4, 9], expected [4, 3]"
    )


def test_a_third_of_a_fused_tensor_that_is_taken_twice_is_refused():
    """Each parameter is filled in its shape, and each tensor is used: only the spans show it."""
    wrong = {**TABLE, "attn.k.weight": TensorPlace("attn.qk", (0, 2))}
    message = refused(table=wrong)
    assert "rows 0 to 2 of net.attn.qk are used twice" in message


def test_rows_that_nothing_takes_are_refused():
    short = {**PARAMETERS, "attn.k.weight": (1, 6)}
    assert refused(table={**TABLE, "attn.k.weight": TensorPlace("attn.qk", (2, 3))}, parameters=short) == (
        "rows 3 to 4 of net.attn.qk are used by nothing"
    )
    gap = refused(table={**TABLE, "attn.k.weight": TensorPlace("attn.qk", (3, 4))}, parameters=short)
    assert gap == "rows 2 to 3 of net.attn.qk are used by nothing"
    assert "expected [2, 6] in rows 2 to 4" in refused({**TENSORS, "net.attn.qk": (3, 6)})


def test_one_tensor_serves_two_parameters_only_where_the_table_ties_them():
    both, tensors = {"a": (2, 2), "b": (2, 2)}, {"x": (2, 2)}
    assert "used twice" in refused(tensors, {"a": TensorPlace("x"), "b": TensorPlace("x")}, both, prefix="")
    assert (
        len(fills(tensors, {"a": TensorPlace("x", tied=True), "b": TensorPlace("x", tied=True)}, both, prefix="")) == 2
    )


@pytest.mark.parametrize(
    ("form", "shape", "found", "fits"),
    [
        ("transposed", (2, 3), (3, 2), True),
        ("transposed", (2, 3), (2, 3), False),
        ("flat", (2, 3), (2, 3, 1, 1), True),
        ("flat", (2, 3, 1, 1), (2, 3), True),
        ("flat", (2, 3), (2, 3, 1, 2), False),
        ("flat", (2, 3), (3, 2), False),
        ("same", (2, 3), (2, 3, 1, 1), False),
    ],
)
def test_a_form_says_how_a_tensor_lies_in_the_file(form, shape, found, fits):
    arguments = {"x": found}, {"a": TensorPlace("x", form=form)}, {"a": shape}
    if fits:
        assert fills(*arguments, prefix="")[0].form == form
    else:
        assert "another shape" in refused(*arguments, prefix="")


def test_a_parameter_that_the_network_computes_may_be_absent():
    assert fills(parameters={**PARAMETERS, "position_ids": (77,)}, optional=["position_*"]) == fills()
