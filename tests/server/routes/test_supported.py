"""The page that lists the node types of the server, and the script that names those a workflow lacks."""

from __future__ import annotations

import pytest
from graphflow_server.routes import extensions


def test_the_page_runs_its_own_script_alone_and_names_what_workflows_may_use(server):
    page = server.get("/supported?missing=WanVaceToVideo")
    assert page.status == 200 and "Node types of this GraphFlow server" in page.body.decode()
    assert "script-src 'sha256-" in page.headers["Content-Security-Policy"]
    assert "WanVaceToVideo" not in page.body.decode(), (
        "what the address states reaches the page as text only, by its script"
    )


def test_the_editor_gets_a_script_that_names_the_missing_types(server, monkeypatch, tmp_path):
    assert server.get("/extensions").json == ["/extensions/talking/talk.js"], "without the editor there is none"
    monkeypatch.setattr(extensions, "editor_folder", lambda: tmp_path)
    ours, *others = server.get("/extensions").json
    assert others == ["/extensions/talking/talk.js"]
    script = server.get(ours)
    assert script.status == 200 and script.headers["Content-Type"].startswith("text/javascript")
    assert "/supported" in script.body.decode() and "afterConfigureGraph" in script.body.decode()


def test_a_refused_workflow_names_every_type_that_is_missing_and_the_page(server):
    nodes = {str(number): {"class_type": f"Nothing{number % 2}", "inputs": {}} for number in range(4)}
    refused = server.post("/prompt", {"prompt": nodes})
    assert refused.status == 400
    error = refused.json["error"]
    assert error["message"] == "Cannot execute because node Nothing0 does not exist."
    assert error["details"] == "Node ID '#0'; nor do Nothing1; GET /supported lists those that do"


@pytest.mark.parametrize("path", ["status.html", "../serve.py", "%2e%2e/serve.py"])
def test_nothing_else_of_the_package_is_served_there(server, path):
    assert server.get(f"/extensions/{extensions.OURS}/{path}").status == 404
