import pytest

import graphflow as gf


def refused(workflow, vary) -> list[str]:
    with pytest.raises(gf.InvalidWorkflow) as error:
        gf.sweep(workflow, vary)
    return [problem.code for problem in error.value.problems]


def test_axes_are_crossed_and_the_last_one_moves_fastest(workflow):
    variants = gf.sweep(workflow, {"Prompt.text": ["a", "b"], "Sample.seed": range(3)}).variants
    assert len(variants) == 6
    assert [tuple(variant.values.values()) for variant in variants] == [
        ("a", 0),
        ("a", 1),
        ("a", 2),
        ("b", 0),
        ("b", 1),
        ("b", 2),
    ]
    assert variants[-1].index == 5
    assert [variant.index for variant in variants[1:3]] == [1, 2]
    with pytest.raises(IndexError):
        variants[6]


def test_inputs_that_are_zipped_move_together(workflow):
    variants = gf.sweep(workflow, {("3.seed", "3.cfg"): zip((1, 2), (3.0, 4.0), strict=True)}).variants
    assert [tuple(variant.values.values()) for variant in variants] == [(1, 3.0), (2, 4.0)]


def test_a_variant_is_a_workflow_with_its_values_in_it(workflow):
    variant = gf.sweep(workflow, {"3.seed": [7], "2.text": ["b"]}).variants[0]
    assert variant.workflow == workflow.set("3.seed", 7).set("2.text", "b") or (
        variant.workflow.to_json() == workflow.set("3.seed", 7).set("2.text", "b").to_json()
    )


def test_ten_thousand_million_variants_cost_nothing_until_they_are_asked_for(workflow):
    variants = gf.sweep(workflow, {"3.seed": range(10**5), "3.cfg": [x / 10 for x in range(10**5)]}).variants
    assert len(variants) == 10**10
    assert tuple(variants[10**10 - 1].values.values()) == (10**5 - 1, (10**5 - 1) / 10)


def test_places_have_short_names_where_one_says_it_all(workflow):
    two = gf.Workflow({**workflow, "5": workflow["3"], "6": workflow["4"]})
    names = gf.sweep(two, {"3.seed": [1], "5.seed": [1], "Prompt.text": ["a"]}).variants.names
    assert list(names.values()) == ["3.seed", "5.seed", "text"]


def test_numbers_of_array_libraries_are_plain_numbers(workflow):
    import numpy as np

    variants = gf.sweep(workflow, {"3.seed": np.arange(2), "3.cfg": np.linspace(1, 2, 2)}).variants
    assert [[type(value) for value in variant.values.values()] for variant in variants] == [[int, float]] * 4


def test_what_is_wrong_with_axes_is_said_before_anything_runs(workflow):
    assert refused(workflow, {}) == ["nothing_varies"]
    assert refused(workflow, {"3.seed": []}) == ["no_values"]
    assert refused(workflow, {"2.text": "a red apple"}) == ["not_values"]
    assert refused(workflow, {"3.seed": 5}) == ["not_values"]
    assert refused(workflow, {"9.seed": [1]}) == ["no_node"]
    assert refused(workflow, {("3.seed", "3.cfg"): [(1, 2), (3,)]}) == ["uneven"]
    assert refused(workflow, {"3.seed": [1], ("3.seed", "3.cfg"): [(1, 2)]}) == ["varied_twice"]
    assert refused(workflow, {"9.seed": [1], "3.cfg": []}) == ["no_node", "no_values"]
