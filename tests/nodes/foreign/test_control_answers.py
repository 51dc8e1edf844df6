"""What control networks add inside a network, in the form of packs and back."""

import pytest
import torch
from graphflow_nodes.families import FAMILIES
from graphflow_nodes.foreign.control_answers import from_pack, takes_answers, to_pack
from graphflow_nodes.foreign.control_base import ControlBase
from graphflow_nodes.model.config import Config
from graphflow_nodes.model.handles import Model

BY_NAME = {family.name: family for family in FAMILIES}


def model(name, **denoiser):
    return Model(BY_NAME[name], (), Config({"denoiser": Config(denoiser)}))


UNET = {"block_out_channels": (4, 8), "layers_per_block": 1}
SKIPS = [(4, 5, 6), (4, 5, 6), (4, 3, 3), (8, 3, 3)]
X = torch.zeros(2, 4, 5, 6)


def test_lists_for_a_u_net_are_taken_from_their_ends_and_places_without_an_answer_add_nothing():
    unet = model("sd1", **UNET)
    last, middle = torch.rand(2, 8, 3, 3), torch.rand(1, 8, 3, 3)
    found = from_pack({"output": [last], "middle": [None, middle]}, unet, X)
    assert [tuple(found[0][f"down.{n}"].shape) for n in range(4)] == SKIPS
    assert torch.equal(found[1]["down.3"], last[1]) and not any(found[1][f"down.{n}"].any() for n in range(3))
    assert torch.equal(found[0]["mid"], middle[0]) and torch.equal(found[1]["mid"], middle[0])
    assert from_pack(None, unet, X) == [{}, {}] == from_pack({"input": [], "output": []}, unet, X)


def test_what_is_added_behind_the_last_block_of_a_level_acts_as_an_adapter_does():
    unet = model("sd1", **UNET)
    first, second = torch.rand(2, 4, 5, 6), torch.rand(2, 8, 3, 3)
    found = from_pack({"input": [second, None, first, None]}, unet, X)
    assert found[1].keys() == {"inner.0", "inner.1"}
    assert torch.equal(found[1]["inner.0"], first[1]) and torch.equal(found[1]["inner.1"], second[1])
    with pytest.raises(ValueError, match=r"behind block 0; open are \[1, 3\]"):
        from_pack({"input": [first]}, unet, X)


@pytest.mark.parametrize(
    "name, config, kinds",
    [
        ("sd1", UNET, None),
        ("flux", {"num_layers": 3, "num_single_layers": 2}, {"input": 3, "output": 2}),
        ("qwen_image", {"num_layers": 3}, {"input": 3}),
        ("sd3", {"num_layers": 3}, {"output": 3}),
    ],
)
def test_what_goes_out_and_comes_back_is_the_same(name, config, kinds):
    network = model(name, **config)
    if kinds is None:
        answer = {"output": [torch.rand(2, *shape) for shape in SKIPS], "middle": [torch.rand(2, *SKIPS[-1])]}
    else:
        answer = {of: [torch.rand(2, 7, 5) for _ in range(count)] for of, count in kinds.items()}
    assert takes_answers(network)
    given = from_pack(answer, network, X)
    again = from_pack(to_pack(given, network), network, X)
    assert [one.keys() for one in given] == [one.keys() for one in again]
    assert all(torch.equal(one[key], two[key]) for one, two in zip(given, again, strict=True) for key in one)


def test_fewer_answers_than_blocks_are_those_of_the_first_blocks_of_a_transformer():
    flux = model("flux", num_layers=3, num_single_layers=2)
    second = torch.rand(1, 7, 5)
    found = from_pack({"input": [None, second]}, flux, X)
    assert list(found[0]) == ["double.spread3.0", "double.spread3.1", "double.spread3.2"]
    assert torch.equal(found[1]["double.spread3.1"], second[0]) and not found[1]["double.spread3.2"].any()


def test_a_family_without_places_for_controls_takes_none():
    assert not takes_answers(model("lumina2"))


@pytest.mark.parametrize(
    "answer, message",
    [
        (
            {"output": [torch.zeros(2, 8, 3, 4)]},
            r"output\[3\] of get_control is \[2, 8, 3, 4\]; expected \[2, 8, 3, 3\]",
        ),
        ({"output": [torch.zeros(3, 8, 3, 3)]}, r"is \[3, 8, 3, 3\]; expected \[2, 8, 3, 3\]"),
        ({"output": [None] * 5}, "5 items under 'output'; this U-Net has 4 places"),
        ([torch.zeros(1)], "a dict with lists under 'input', 'middle' and 'output'"),
        ({"down": []}, "a dict with lists under"),
    ],
)
def test_what_does_not_fit_a_u_net_is_named(answer, message):
    with pytest.raises(ValueError, match=message):
        from_pack(answer, model("sd1", **UNET), X)


def test_the_sum_of_objects_in_a_row_has_the_strength_of_each():
    control = ControlBase()
    control.strength, control.global_average_pooling = 0.5, True
    own = {"middle": [torch.tensor([1.0, 3.0]).view(1, 1, 1, 2)], "output": [None]}
    before = {"middle": [torch.ones(1, 1, 1, 2)], "output": [torch.ones(1), torch.ones(1)]}
    found = control.control_merge(own, before)
    assert found["middle"][0].flatten().tolist() == [2.0, 2.0] and found["input"] == []
    assert [one.tolist() for one in found["output"]] == [[1.0], [1.0]]
    copy = ControlBase()
    control.copy_to(copy)
    assert copy.strength == 0.5 and copy.control_merge(own, None)["output"] == [None]
