"""Programs of others that speak ComfyUI's protocol work unmodified: each makes a picture on a real server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .conftest import small

Client = Callable[[str, dict[str, Any]], Any]


def test_stable_canvas_client_ends_by_events_alone_and_sees_every_picture(client: Client, server: str) -> None:
    found = client("stable_canvas.mjs", small(seed=11))
    assert len(found["images"]) == 1
    assert found["images"][0].startswith(f"http://{server}/view?filename=apple_")
    assert found["steps"][-1] == [3, 3]


def test_comfy_ui_client_of_npm_reads_history_and_pictures(client: Client) -> None:
    found = client("comfy_ui_client.mjs", small(seed=13))
    assert len(found["images"]) == 1
    assert found["bytes"][0] > 1000


def test_comfy_api_simplified_opens_its_socket_after_the_prompt_and_takes_no_preview_for_a_result(
    client: Client,
) -> None:
    found = client("simplified.py", small(seed=14))
    assert len(found["images"]) == 1
    assert found["heads"] == ["89504e47"]
    assert found["uploaded"]["name"].endswith(".png")


def test_comfy_script_makes_python_of_every_node_type_and_runs_it(client: Client) -> None:
    found = client("script.py", small())
    assert found["sizes"] == [[64, 64]]
    assert found["types"] >= 90


def test_comfyui_workflow_client_polls_the_history(client: Client) -> None:
    assert client("workflow_client.py", small(seed=15)) == {"Save Image": [64, 64]}


def test_comfyui_xy_posts_and_polls(client: Client) -> None:
    (found,) = client("xy.py", small(seed=16))
    assert found


def test_saintno_sdk_runs_a_prompt_and_finds_the_other_routes_that_it_uses(client: Client) -> None:
    found = client("saintno_sdk.mjs", small(steps=25, seed=12))  # it listens for progress only after the answer
    assert [image["type"] for image in found["images"]] == ["output"]
    assert found["steps"][-1] == [25, 25]
    assert found["bytes"] > 1000
    assert "graphflow-tiny" in found["checkpoints"]
    assert found["samplers"] > 5
    assert {"system", "devices"} <= set(found["stats"])
    assert set(found["queue"]) == {"queue_running", "queue_pending"}
    assert found["uploaded"]["filename"] == "from_sdk.png"
    assert found["freed"] is True
