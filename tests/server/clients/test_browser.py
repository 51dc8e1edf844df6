"""What a user sees in the official web editor on our server. Screenshots are kept."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from .conftest import ARTEFACTS, BROWSER, EDITOR, HERE, HOW, PROGRAMS, serving

PATIENCE = 300.0
"""Seconds of a scenario."""
QUEUE_NODES = HERE.parents[1] / "data" / "queue_nodes"


def scenario(name: str, address: str, *more: str) -> list[dict[str, Any]]:
    """Runs a scenario of `programs/` in a browser; what it saw, one mapping for each browser it opened."""
    if BROWSER is None:
        pytest.skip("there is no browser; get one with: apt-get install chromium")
    if shutil.which("node") is None or not (HERE / "node_modules").is_dir():
        pytest.skip(HOW)
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    command = ["node", str(PROGRAMS / name), BROWSER, str(ARTEFACTS), f"http://{address}", *more]
    done, seen, complaints = ended(command)
    assert done == 0, seen + complaints
    found = [json.loads(line) for line in seen.splitlines()]
    assert [each["errors"] for each in found] == [[]] * len(found)
    return found


def ended(command: list[str]) -> tuple[int, str, str]:
    """The exit code and what a program wrote. It has a session of its own, and files instead of pipes: the processes
    of a browser may outlive the program, and would hold its pipes."""
    with TemporaryFile("w+") as seen, TemporaryFile("w+") as complaints:
        process = subprocess.Popen(command, stdout=seen, stderr=complaints, start_new_session=True)
        try:
            code = process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            pytest.fail(f"{' '.join(command)} did not end within {PATIENCE} s")
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        seen.seek(0)
        complaints.seek(0)
        return code, seen.read(), complaints.read()


@pytest.fixture(scope="module")
def editor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with the web editor."""
    if BROWSER is None or not EDITOR.is_dir():
        pytest.skip(HOW)
    root = tmp_path_factory.mktemp("editor")
    (root / "models" / "loras").mkdir(parents=True)
    low_rank = {
        f"lora_unet_x.lora_{name}.weight": torch.zeros(shape) for name, shape in (("up", (4, 2)), ("down", (2, 4)))
    }
    save_file(low_rank, root / "models" / "loras" / "style.safetensors")
    with serving(root, "--nodes", str(QUEUE_NODES), editor=True) as address:
        yield address


def test_the_editor_opens_with_a_workflow_of_ours_and_run_draws_it_with_progress_and_previews(editor: str) -> None:
    (found,) = scenario("editor_run.mjs", editor)
    assert {"CheckpointLoaderSimple", "KSampler", "SaveImage"} <= set(found["types"])
    assert found["progress"][-1] == ["3", 60, 60]
    values = [value for _, value, _ in found["progress"]]
    assert len(values) > 3 and values == sorted(values)
    assert found["previews"] > 0
    assert found["executed"] >= len(found["types"])
    assert found["shown"] == 64
    assert found["pictures"] >= 1
    assert found["history"] == "apple_00001_.png"


def test_what_is_refused_and_what_fails_lands_on_its_node(editor: str) -> None:
    (found,) = scenario("editor_errors.mjs", editor)
    assert found["refused"] == [["3", "KSampler", [["value_bigger_than_max", "cfg"]]]]
    assert found["failed"] == ["Misbehave", "ValueError", "out of luck\n"]
    assert found["on"] == "Misbehave"


def test_node_types_that_are_missing_are_named_with_the_page_that_lists_those_that_are_not(editor: str) -> None:
    (found,) = scenario("editor_missing.mjs", editor)
    assert "WanVaceToVideo, Any Switch (rgthree)." in found["text"]
    assert f"http://{editor}/supported" in found["text"]
    assert "EmptyImage" not in found["text"].split("no node types of these names")[1]
    assert "a newer version would not bring them" in found["text"]  # the editor's own panel
    assert "comfyui-manager" not in found["text"] and "Please update" not in found["text"]
    assert found["missing"] == ["WanVaceToVideo", "Any Switch (rgthree)"] and found["listed"] > 100


def test_a_node_is_copied_and_pasted_and_the_panel_of_models_lists_ours(editor: str) -> None:
    (found,) = scenario("editor_panels.mjs", editor)
    first, second = found["samplers"]
    assert first == second and first["sampler_name"] == "euler"
    assert [200, "/api/experiment/models/checkpoints"] in found["asked"]


def test_a_blueprint_is_kept_and_inserted_and_a_lora_of_the_panel_becomes_its_loader(editor: str) -> None:
    (found,) = scenario("editor_blueprint.mjs", editor)
    assert found["kept"] == 200
    (inserted,) = [title for _, title, is_subgraph in found["types"] if is_subgraph]
    assert inserted == "draw"
    assert found["loras"] == [["LoraLoader", "style.safetensors"]]


def test_a_reload_in_a_run_picks_its_progress_up_and_the_jobs_panel_stops_it(editor: str) -> None:
    (found,) = scenario("editor_long_run.mjs", editor)
    assert found["again"]["progress"]
    assert all(most == 900 for _, most in found["again"]["progress"])
    assert found["again"]["active"].startswith("1 active")
    assert found["left"] == 0


def test_a_result_is_pasted_into_loadimage_and_masks_are_painted_on_it_again_and_again(tmp_path: Path) -> None:
    if BROWSER is None or not EDITOR.is_dir():
        pytest.skip(HOW)
    (tmp_path / "input").mkdir()
    Image.new("RGB", (256, 256), (200, 120, 40)).save(tmp_path / "input" / "painting.png")
    with serving(tmp_path, editor=True) as address:
        (found,) = scenario("editor_masks.mjs", address, "painting.png")
    for step in ("pasted", "painted", "again"):
        assert (found[step]["status"], found[step]["state"]) == (200, "done"), found[step]
    assert found["pasted"]["name"] == "ComfyUI_00001_.png [output]"
    assert found["painted"]["name"].endswith("[input]") and found["again"]["name"] != found["painted"]["name"]
    assert found["refused"] == []
    for step in ("painted", "again"):
        with Image.open(tmp_path / "input" / found[step]["name"].removesuffix(" [input]")) as picture:
            assert picture.getchannel("A").getextrema()[0] == 0, "what was painted is transparent"
