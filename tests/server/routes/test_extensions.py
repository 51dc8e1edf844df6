"""What foreign node packs add to the server: scripts for the editor, and messages of their nodes."""

from __future__ import annotations

import pytest


def test_scripts_of_packs_are_listed_and_served_as_scripts(server):
    assert server.get("/extensions").json == ["/extensions/talking/talk.js"]
    assert server.get("/api/extensions").json == ["/extensions/talking/talk.js"]
    script = server.get("/extensions/talking/talk.js")
    assert script.status == 200 and "talking" in script.body.decode()
    assert script.headers["Content-Type"].startswith("text/javascript")
    assert script.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    [
        "talking/../private.txt",
        "talking/%2e%2e/private.txt",
        "talking/nothing.js",
        "nobody/talk.js",
        "talking//etc/passwd",
        "talking/..%2f__init__.py",
    ],
)
def test_nothing_else_of_a_pack_is_served(server, path):
    assert server.get("/extensions/" + path).status == 404


def test_what_a_node_says_in_its_own_words_is_passed_on_but_not_the_protocols(server):
    done = server.run({"1": {"class_type": "Talk", "inputs": {"text": "hi"}}})
    events = server.get(f"/prompts/{done['prompt_id']}/events?since=0").json["events"]
    kinds = [event["type"] for event in events]
    said = [event["data"] for event in events if event["type"] == "talking.said"]
    assert said == [{"text": "hi"}]
    assert kinds.count("execution_success") == 1 and kinds[-1] == "execution_success"
