"""Files of old editors: type names that have changed, nodes without a name."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from graphflow.formats.editor import to_api
from graphflow.formats.object_info import read_all

from .editor_data import file, infos, node

SMALL = read_all(
    {
        name: {"input": {"required": {widget: ["STRING", {}]}}, "output": ["X"], "name": name, "display_name": name}
        for name, widget in (
            ("ControlNetLoader", "control_net_name"),
            ("ConditioningAverage", "to"),
            ("SVD_img2vid_Conditioning", "width"),
        )
    }
)


@pytest.mark.parametrize(
    ("old", "today"),
    [
        ("T2IAdapterLoader", "ControlNetLoader"),
        ("SDV_img2vid_Conditioning", "SVD_img2vid_Conditioning"),
        ("ConditioningAverage ", "ConditioningAverage"),
    ],
)
def test_old_names_of_node_types_are_todays(old: str, today: str) -> None:
    converted = to_api(file([node(1, old, widgets_values=["a"])]), SMALL)
    assert not converted.problems
    assert converted.api["1"]["class_type"] == today


def prefix_of(**named: Any) -> str:
    latent = node(1, "EmptyLatentImage", outputs=["LATENT"], widgets_values=[512, 64, 1], **named)
    save = node(2, "SaveLatent", [("samples", "LATENT", 5)], widgets_values=["x/%EmptyLatentImage.width%"])
    converted = to_api(file([latent, save], [[5, 1, 0, 2, 0, "LATENT"]]), infos(), now=datetime(2026, 1, 2))
    return converted.api["2"]["inputs"]["filename_prefix"]


def test_a_node_without_a_name_goes_by_its_type() -> None:
    assert prefix_of() == "x/512"


def test_a_name_or_a_title_of_its_own_leads() -> None:
    assert prefix_of(properties={"Node name for S&R": "Size"}) == "x/%EmptyLatentImage.width%"
    assert prefix_of(title="Size") == "x/%EmptyLatentImage.width%"
