"""`graphflow convert`, and the commands that take the editor's format as it is."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from graphflow.cli import main
from graphflow.document.workflow import Workflow
from graphflow.formats.editor import from_workflow
from graphflow.formats.object_info import describe_all
from graphflow.registry import Registry
from graphflow.settings import Settings

from .editor_data import DATA, file, node, recorded, template

SHIPPED = Path(__file__).parents[3] / "workflows" / "text_to_image.json"


@pytest.fixture
def editor_file(tmp_path: Path) -> Path:
    """The shipped workflow as a file of the editor, small and quick."""
    infos_file = tmp_path / "infos.json"
    infos_file.write_text(json.dumps(describe_all(Registry.installed(), Settings())), encoding="utf-8")
    path = tmp_path / "ui.json"
    assert main(["convert", str(SHIPPED), "--to", "ui", "-o", str(path), "--object-info", str(infos_file)]) == 0
    return path


def test_a_file_goes_to_the_editor_and_back(editor_file: Path, tmp_path: Path) -> None:
    back = tmp_path / "api.json"
    assert main(["convert", str(editor_file), "-o", str(back)]) == 0
    before, after = json.loads(SHIPPED.read_text()), json.loads(back.read_text())
    assert {key: (item["class_type"], item["inputs"]) for key, item in after.items()} == {
        key: (item["class_type"], item["inputs"]) for key, item in before.items()
    }


def test_the_editors_file_is_validated_run_and_carried_by_the_picture(
    editor_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["validate", str(editor_file)]) == 0
    data = json.loads(editor_file.read_text())
    for item in data["nodes"]:
        if item["type"] == "KSampler":
            item["widgets_values"][2] = 1  # steps
        if item["type"] == "EmptyLatentImage":
            item["widgets_values"][2] = 1  # pictures
    editor_file.write_text(json.dumps(data))
    capsys.readouterr()
    assert main(["run", str(editor_file), "--quiet", "--no-cache"]) == 0
    picture = capsys.readouterr().out.strip()
    assert json.loads(Image.open(picture).info["workflow"]) == data
    assert main(["convert", picture, "--to", "ui"]) == 0
    assert json.loads(capsys.readouterr().out) == data


def test_conversion_from_a_saved_description_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "ui.json"
    path.write_text(json.dumps(template("flux_schnell")), encoding="utf-8")
    assert main(["convert", str(path), "--object-info", str(DATA / "object_info.json")]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert {key: item["inputs"] for key, item in printed.items()} == {
        key: item["inputs"] for key, item in recorded("sent")["flux_schnell"].items()
    }


class _Server(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        content = (DATA / "object_info.json").read_bytes() if self.path == "/object_info" else b""
        self.send_response(200 if content else 404)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Server) as found:
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{found.server_port}"
        found.shutdown()
        thread.join()


@pytest.mark.parametrize("path", ["", "/", "/object_info"])
def test_conversion_asks_a_running_server_for_its_node_types(
    server: str, path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ui.json").write_text(json.dumps(file([node(1, "PreviewAny")])), encoding="utf-8")
    assert main(["convert", str(tmp_path / "ui.json"), "--object-info", server + path]) == 0
    assert json.loads(capsys.readouterr().out)["1"]["class_type"] == "PreviewAny"


def test_what_is_missing_is_said_and_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = file([node(1, "Nowhere", properties={"cnr_id": "nowhere-pack"})])
    (tmp_path / "ui.json").write_text(json.dumps(data), encoding="utf-8")
    for command in (["convert", "-o", str(tmp_path / "out.json")], ["validate"], ["run"], ["explain"]):
        assert main([command[0], str(tmp_path / "ui.json"), *command[1:]]) == 2
        assert "nowhere-pack" in capsys.readouterr().err
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize(("content", "said"), [("[]", "no descriptions"), ("{", "not JSON"), (None, "cannot read")])
def test_descriptions_that_are_none_are_told(
    tmp_path: Path, content: str | None, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / "infos.json").write_text(content)
    assert main(["convert", str(SHIPPED), "--object-info", str(tmp_path / "infos.json")]) == 2
    assert said in capsys.readouterr().err


def test_values_by_name_are_read_on_request_and_told_otherwise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = file([node(1, "EmptyLatentImage", widgets_values=[16], widgets_values_named={"width": 32})])
    (tmp_path / "ui.json").write_text(json.dumps(data), encoding="utf-8")
    for options, width, said in (([], 16, True), (["--prefer-named"], 32, True)):
        assert main(["convert", str(tmp_path / "ui.json"), *options]) == 0
        printed = capsys.readouterr()
        assert json.loads(printed.out)["1"]["inputs"]["width"] == width
        assert ("other values by name" in printed.err) == said


def test_a_graph_that_was_built_in_python_opens_in_the_editor() -> None:
    workflow = Workflow.from_json(json.loads(SHIPPED.read_text()))
    from graphflow import Engine

    written = from_workflow(workflow, Engine().infos)
    assert not written.warnings
    assert [item["type"] for item in written.data["nodes"]][-1] == "SaveImage"
