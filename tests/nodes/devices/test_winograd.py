"""Convolutions in fewer products: the same numbers as the direct form, for every size of image."""

from __future__ import annotations

import pytest
import torch
from graphflow_nodes.devices.winograd import decomposed, tile_side, winograd
from torch.nn import functional as F

SIZES = [(1, 8, 8), (2, 16, 24), (1, 7, 9), (3, 5, 1), (1, 1, 1), (1, 66, 34)]
ERROR = {2: 1e-6, 4: 8e-6}
"""Of the norm of the values: float32 has 6e-8 a value."""


@pytest.mark.parametrize("m", [2, 4])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_it_equals_the_direct_form_for_sizes_that_are_no_multiple_of_a_tile(size: tuple[int, int, int], m: int) -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(size[0], 12, *size[1:], generator=generator)
    weight, bias = torch.randn(20, 12, 3, 3, generator=generator), torch.randn(20, generator=generator)
    expected = F.conv2d(x.double(), weight.double(), bias.double(), padding=1)
    found = winograd(x, weight, bias, m)
    assert found.shape == expected.shape and found.dtype == torch.float32
    assert (found - expected).norm() <= ERROR[m] * expected.norm()


def test_an_image_in_strips_equals_the_direct_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphflow_nodes.devices.winograd.STRIP", 1)
    x, weight = torch.randn(1, 4, 160, 12), torch.randn(4, 4, 3, 3)
    expected = F.conv2d(x.double(), weight.double(), padding=1)
    assert (winograd(x, weight, None, 4) - expected).norm() <= ERROR[4] * expected.norm()


def test_a_row_of_a_batch_has_the_bits_it_has_beside_any_other() -> None:
    weight, first, others = torch.randn(64, 64, 3, 3), torch.randn(1, 64, 16, 16), torch.randn(2, 64, 16, 16)
    one, other = (winograd(torch.cat([first, beside[None]]), weight, None, 4)[0] for beside in others)
    assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("places", "side", "m"),
    [
        pytest.param(2, 32, 4, id="many tiles: the fewest products"),
        pytest.param(2, 16, 2, id="few tiles: the weights of 4 x 4 tiles would take longer to fetch"),
        pytest.param(2, 4, None, id="a handful of places: the direct form"),
    ],
)
def test_the_form_follows_the_number_of_places_a_weight_serves(places: int, side: int, m: int | None) -> None:
    assert tile_side(places, side, side) == m


def arguments(**changes: object) -> list[object]:
    given = {
        "x": torch.randn(1, 64, 32, 32),
        "weight": torch.randn(64, 64, 3, 3),
        "bias": None,
        "stride": [1, 1],
        "padding": [1, 1],
        "dilation": [1, 1],
        "is_transposed": False,
        "output_padding": [0, 0],
        "groups": 1,
    }
    return list({**given, **changes}.values())


OTHERS = {
    "stride": {"stride": [2, 2]},
    "padding": {"padding": [0, 0]},
    "dilation": {"dilation": [2, 2]},
    "transposed": {"is_transposed": True},
    "groups": {"groups": 2, "weight": torch.randn(64, 32, 3, 3)},
    "1 x 1": {"weight": torch.randn(64, 64, 1, 1), "padding": [0, 0]},
    "of a line": {"x": torch.randn(1, 64, 32), "weight": torch.randn(64, 64, 3)},
    "few channels": {"x": torch.randn(1, 4, 32, 32), "weight": torch.randn(64, 4, 3, 3)},
    "bfloat16": {"x": torch.randn(1, 64, 32, 32).bfloat16(), "weight": torch.randn(64, 64, 3, 3).bfloat16()},
}


@pytest.mark.parametrize("changes", OTHERS.values(), ids=OTHERS.keys())
def test_other_convolutions_stay_as_they_are(changes: dict[str, object]) -> None:
    assert decomposed(*arguments(**changes)) is NotImplemented  # type: ignore[arg-type]


def test_the_plain_one_is_replaced() -> None:
    given = arguments()
    found = decomposed(*given)  # type: ignore[arg-type]
    assert torch.allclose(found, F.conv2d(given[0], given[1], padding=1), atol=1e-3)  # type: ignore[arg-type]
