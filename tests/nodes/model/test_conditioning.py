"""A CONDITIONING is ComfyUI's list on a wire, and entries where it is used."""

import pytest
import torch
from graphflow_nodes.model.conditioning import check, from_wire, to_wire
from graphflow_nodes.model.entry import Control, Entry

from graphflow import GraphFlowError
from tests.nodes.made_up import WIDTH, entry, family, model


def wire(**options):
    return [(torch.randn(1, 5, WIDTH), options)]


def problem_of(call, *arguments):
    with pytest.raises(GraphFlowError) as caught:
        call(*arguments)
    (problem,) = caught.value.problems
    return problem


def test_a_batch_of_rows_is_an_entry_a_row():
    text, pooled = torch.randn(3, 5, WIDTH), torch.randn(3, 8)
    (batch,) = from_wire([[text, {"pooled_output": pooled}]])
    assert [torch.equal(one.text, text[i]) and torch.equal(one.pooled, pooled[i]) for i, one in enumerate(batch)] == [
        True,
        True,
        True,
    ]


def test_the_options_of_comfyui_are_read():
    control = Control(model=None, hint=torch.zeros(1, 8, 8, 3))
    (batch,) = from_wire(
        wire(
            area=[4, 4, 0, 2],
            strength=0.5,
            mask=torch.ones(16, 16),
            mask_strength=0.25,
            set_area_to_bounds=True,
            start_percent=0.2,
            end_percent=0.8,
            guidance=3.5,
            reference_latents=[torch.zeros(2, 3, 4, 4)],
            reference_latents_method="offset",
            concat_latent_image=torch.ones(1, 3, 4, 4),
            concat_mask=torch.ones(1, 1, 4, 4),
            attention_mask=torch.ones(1, 5),
            default=True,
            control=(control,),
            width=512,
        )
    )
    (one,) = batch
    assert (one.area, one.strength, one.mask_strength, one.mask_bounds) == ((4, 4, 0, 2), 0.5, 0.25, True)
    assert one.mask.shape == (1, 16, 16) and one.window == (0.2, 0.8) and one.guidance == 3.5 and one.is_default
    assert [latent.shape for latent in one.references] == [(3, 4, 4), (3, 4, 4)] and one.reference_method == "offset"
    assert one.concat.shape == (3, 4, 4) and one.concat_mask.shape == (1, 4, 4) and one.attention_mask.shape == (5,)
    assert one.controls == (control,) and one.extra == {"width": 512}


def test_what_was_read_is_given_back_with_options_that_nobody_knows():
    options = {
        "pooled_output": torch.randn(2, 8),
        "area": (4, 4, 0, 2),
        "strength": 0.5,
        "start_percent": 0.1,
        "end_percent": 0.6,
        "guidance": 2.0,
        "made_by_a_pack": {"a": [1, 2]},
    }
    text = torch.randn(2, 5, WIDTH)
    ((back, found),) = to_wire(from_wire([[text, options]]))
    assert torch.equal(back, text) and torch.equal(found.pop("pooled_output"), options.pop("pooled_output"))
    assert found == options


def test_entries_of_an_encoder_are_batches_of_one_row():
    ((text, options),) = to_wire([Entry(text=torch.zeros(5, WIDTH), pooled=torch.ones(8))])
    assert text.shape == (1, 5, WIDTH) and options["pooled_output"].shape == (1, 8)


def test_a_conditioning_without_text_goes_there_and_back():
    ((text, options),) = to_wire([Entry(guidance=1.0)])
    assert text is None and from_wire([(text, options)])[0][0].guidance == 1.0


@pytest.mark.parametrize("value", [None, 3, [1], [[torch.zeros(1)]], {"a": 1}, [[torch.zeros(1), 4]]])
def test_what_is_not_a_conditioning_is_a_problem_at_its_input(value):
    problem = problem_of(from_wire, value, "positive")
    assert (problem.code, problem.input) == ("not_conditioning", "positive")


def test_text_of_another_width_names_both_widths_and_who_wants_which():
    problem = problem_of(check, model(), [(Entry(text=torch.zeros(5, 48)),)], "positive")
    assert problem.message == f"text is 48 wide, made_up takes {WIDTH}"
    assert problem.input == "positive" and "Made Up" in problem.hint


def test_an_option_that_the_family_does_not_take_is_named_with_those_that_it_takes():
    problem = problem_of(check, model(), [(entry(references=(torch.zeros(3, 4, 4),)),)], "negative")
    assert problem.message == "made_up takes no 'references'; it takes guidance, text"
    problem = problem_of(check, model(), from_wire(wire(height=512)), "negative")
    assert "'height'" in problem.message


def test_what_a_family_needs_and_does_not_find_is_named():
    needing = model(of=family(needs=frozenset({"text", "pooled"})))
    problem = problem_of(check, needing, [(entry(),)], "positive")
    assert problem.message == "made_up needs 'pooled', which this conditioning does not have"


def test_areas_masks_windows_and_strengths_are_taken_by_every_family():
    (batch,) = from_wire(wire(area=(4, 4, 0, 0), mask=torch.ones(1, 8, 8), strength=0.5, start_percent=0.5))
    check(model(), [batch], "positive")


def test_a_control_of_another_program_is_a_problem():
    assert problem_of(from_wire, wire(control=object()), "positive").code == "foreign_control"
