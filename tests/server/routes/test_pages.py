"""What a browser is shown: the status page, the login, the editor where it is installed."""

from __future__ import annotations

import http.client
import json
import os
import re
from pathlib import Path
from urllib.parse import quote

import pytest
from graphflow_server.routes import pages

from ..browser import CHROMIUM, rendered

STATIC = Path(pages.__file__).parents[1] / "static"
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no browser: apt-get install chromium")


@pytest.fixture
def no_editor(monkeypatch):
    monkeypatch.setattr(pages, "editor_folder", lambda: None)


OWN = [path for path in STATIC.rglob("*") if path.suffix in (".html", ".js", ".css")]
HTTP = re.compile(r"https?://(?!www\.w3\.org/2000/svg)")
MARKUP = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|DOMParser|new Function")


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_our_pages_need_no_other_host_and_never_make_markup_of_text(path):
    text = path.read_text()
    assert not HTTP.search(text) and not MARKUP.search(text)
    if path.suffix == ".html":
        assert not re.search(r"(src|href)\s*=\s*[\"'](?!data:|/page/|#|/[\"'])", text)
        assert not re.search(r"\s(on\w+|style)\s*=\s*[\"']", text), "it has a handler or a style in its markup"


def test_without_the_editor_the_first_page_is_the_status_page_and_runs_only_its_own_script(server, no_editor):
    answer = server.get("/", Accept="text/html")
    policy = answer.headers["Content-Security-Policy"]
    assert answer.status == 200 and answer.headers["Content-Type"].startswith("text/html")
    assert "default-src 'none'" in policy and "script-src 'self';" in policy and "unsafe" not in policy
    assert "<script>" not in answer.body.decode() and "<style>" not in answer.body.decode()
    assert server.get("/status").body == answer.body
    login = server.get("/login", Accept="text/html").headers.get("Content-Security-Policy", "")
    assert "script-src 'sha256-" in login or server.get("/login").status == 303
    assert server.get("/index.html").status == server.get("/assets/x.js").status == 404


def test_with_the_editor_its_files_are_served_as_they_are_and_nothing_else_is(server, monkeypatch, tmp_path):
    folder = tmp_path / "static"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<p>editor</p>")
    (folder / "assets" / "index-abc.js").write_text("1")
    (folder / "secret.key").write_text("no")
    (folder / "link.js").symlink_to("/etc/hostname")
    monkeypatch.setattr(pages, "editor_folder", lambda: folder)
    server.post("/settings/a", 1)
    first = server.get("/")
    assert first.body == b"<p>editor</p>" and "'self'" in first.headers["Content-Security-Policy"]
    script = server.get("/assets/index-abc.js")
    assert (
        script.headers["Content-Type"] == "text/javascript; charset=utf-8"
        and "immutable" in script.headers["Cache-Control"]
    )
    for name in ("secret.key", "link.js", "../x.js", "%2e%2e/x.js", "assets", "assets/", "none.js"):
        assert server.get(f"/{name}").status == 404, name


def test_the_parts_of_the_status_page_are_scripts_and_styles_of_ours_and_nothing_else(server):
    page = server.get("/status").body.decode()
    named = re.findall(r'(?:src|href)="/page/([^"]+)"', page)
    assert "main.js" in named and "base.css" in named
    for name in named:
        answer = server.get(f"/page/{name}")
        kind = "text/javascript" if name.endswith(".js") else "text/css"
        assert answer.status == 200 and answer.headers["Content-Type"] == f"{kind}; charset=utf-8", name
        assert server.get(f"/page/{name}", If_None_Match=answer.headers["ETag"]).status == 304
    for name in ("status.html", "..%2Fstatus.html", "../login.html", "none.js", "main.js%00"):
        assert server.get(f"/page/{name}").status == 404, name


@needs_browser
def test_the_status_page_shows_the_queue_and_takes_text_for_text(server, graph, no_editor, tmp_path):
    evil = "<img src=x onerror=document.title='hacked'>"
    server.run(
        {
            "1": {"class_type": "Misbehave", "inputs": {"how": "raise"}, "_meta": {"title": evil}},
            "2": {"class_type": "Write", "inputs": {"text": ["1", 0]}},
        }
    )
    server.post(
        "/prompt",
        {
            "prompt": {
                "1": {
                    "class_type": "Steps",
                    "inputs": {"text": "page", "steps": 600, "seconds": 0.1},
                    "_meta": {"title": evil},
                },
                "2": {"class_type": "Write", "inputs": {"text": ["1", 0]}},
            }
        },
    )
    waiting = server.post("/prompt", {"prompt": graph(71)}).json["prompt_id"]
    shown = (
        ">page</h3>",
        f"Prompt {waiting[:8]}",
        "out of luck",
        "&lt;img src=x onerror",
        "/600",
        "1 waiting",
    )
    page, complaints = rendered(tmp_path, f"{server.url}/", *shown)
    server.post("/queue", {"clear": True})
    server.post("/interrupt")
    assert complaints == []
    assert all(text in page for text in shown) and re.search(r"\d+/600", page)
    assert "<img src=x" not in page and "hacked</title>" not in page


@needs_browser
def test_the_login_link_opens_the_door_in_a_browser(serve, no_editor, tmp_path):
    with serve(token="a-token-of-this-test") as server:
        page, _ = rendered(tmp_path / "one", f"{server.url}/login#a-token-of-this-test", "Make your first image")
        assert "Make your first image" in page and "a-token-of-this-test" not in page
        page, _ = rendered(tmp_path / "two", f"{server.url}/login#a-wrong-token", "server.</p>")
        assert "That is not the token of this server.</p>" in page


def test_settings_are_kept_and_the_default_workflow_is_shown_first(serve):
    with serve() as server:
        assert server.get("/settings").json == {"Comfy.TutorialCompleted": True}
        assert server.post("/settings/Comfy.Locale", "de", Content_Type="text/plain").status == 200
        assert server.post("/api/settings", {"a": [1, {"b": None}], "Comfy.TutorialCompleted": False}).status == 200
        assert server.get("/settings/Comfy.Locale").json == "de" and server.get("/settings/none").json is None
        assert server.get("/settings").json == {
            "Comfy.Locale": "de",
            "a": [1, {"b": None}],
            "Comfy.TutorialCompleted": False,
        }
        assert server.post("/settings", [1]).status == 400
        assert server.post("/settings/large", "x" * (1 << 20)).status == 413
    with serve() as server:
        assert server.get("/settings/Comfy.Locale").json == "de"


def test_there_is_one_user(server):
    assert server.get("/users").json == {"storage": "server", "migrated": True}
    assert server.post("/users", {"username": "x"}).status == 400


def test_workflows_are_saved_listed_renamed_and_removed(serve):
    with serve() as server:
        listed = "/userdata?dir=workflows&recurse=true&split=false&full_info=true"
        assert server.get(listed).json == []
        assert server.post("/userdata/workflows%2Fa.json", {"x": 1}).json == "workflows/a.json"
        assert server.post("/userdata/workflows%2Fa.json?overwrite=false", {"x": 2}).status == 409
        info = server.post("/api/userdata/workflows%2Fa.json?full_info=true&overwrite=true", {"x": 2}).json
        assert info["path"] == "workflows/a.json" and info["size"] == len(json.dumps({"x": 2}))
        assert [item["path"] for item in server.get(listed).json] == ["a.json"]
        assert server.get("/userdata?dir=workflows&recurse=true").json == ["a.json"]
        assert server.get("/userdata?dir=workflows&split=true").json == [["a.json", "a.json"]]
        both = server.get("/v2/userdata?path=").json
        assert both[0] == {"name": "workflows", "path": "workflows", "type": "directory"}
        assert server.get("/userdata/workflows%2Fa.json").json == {"x": 2}
        moved = "/userdata/workflows%2Fa.json/move/workflows%2Fb.json"
        assert server.post(moved).json == "workflows/b.json" and server.post(moved).status == 404
        assert server.post("/userdata/workflows%2F.index.json", {}).status == 200
        assert server.ask("DELETE", "/userdata/workflows%2Fb.json").status == 204
        assert server.ask("DELETE", "/userdata/workflows%2Fb.json").status == 404
        assert server.get("/userdata/user.css").status == 404 and server.get("/userdata").status == 400


def test_a_folder_where_a_workflow_is_to_be_saved_is_told_as_what_it_is(server):
    server.post("/userdata/workflows%2Fa.json", {})
    for path in (
        "/userdata/workflows",
        "/userdata/workflows?overwrite=false",
        "/userdata/workflows%2Fa.json/move/workflows",
    ):
        refused = server.post(path, {})
        assert refused.status == 409 and "a folder has this name" in refused.json["error"]["message"], path
        assert "overwrite" not in refused.json["problems"][0]["hint"]


@pytest.mark.skipif(os.name != "posix", reason="these names are legal there")
@pytest.mark.parametrize("name", ["what?", 'a "quoted" one', "a*b|c<d>"])
def test_a_name_that_is_legal_here_is_saved_listed_read_renamed_and_removed(serve, name):
    with serve() as server:
        file = quote(f"workflows/{name}.json", safe="")
        assert server.post(f"/userdata/{file}", {"x": 1}).status == 200
        listed = server.get("/userdata?dir=workflows&recurse=true&full_info=true").json
        assert [item["path"] for item in listed] == [f"{name}.json"]
        read = server.get(f"/userdata/{file}")
        assert read.json == {"x": 1}
        assert "\n" not in read.headers.get("Content-Disposition", "")
        assert server.post(f"/userdata/{file}/move/{file}b", None).status == 200
        assert server.ask("DELETE", f"/userdata/{file}b").status == 204


@pytest.mark.parametrize(
    "name", ["..%2Fx.json", "%2Fetc%2Fpasswd", "a%2F..%2F..%2Fx", "a%00b", "con.json", "a%5Cb", "C%3Ax"]
)
def test_attack_4_a_saved_workflow_stays_in_its_folder(server, name):
    assert server.post(f"/userdata/{name}", {}).status in (400, 404)
    assert server.get(f"/userdata/{name}").status == 404
    assert server.ask("DELETE", f"/userdata/{name}").status == 404
    assert server.post(f"/userdata/x.json/move/{name}").status in (400, 404)
    assert server.get(f"/userdata?dir={name}").json == []


def test_attack_6_a_saved_page_is_not_shown_in_place(server):
    server.post("/userdata/page.html", b"<script>alert(1)</script>")
    answer = server.get("/userdata/page.html")
    assert (
        answer.headers["Content-Type"] == "application/octet-stream"
        and "sandbox" in answer.headers["Content-Security-Policy"]
    )


def test_the_shipped_workflows_are_templates_of_the_editor_and_its_first_page_opens_one(serve, monkeypatch, tmp_path):
    folder = tmp_path / "static"
    folder.mkdir()
    (folder / "index.html").write_text("<p>editor</p>")
    monkeypatch.setattr(pages, "editor_folder", lambda: folder)
    with serve() as server:
        groups = server.get("/templates/index.json").json
        listed = [item["name"] for group in groups for item in group["templates"]]
        assert listed[0] == "text_to_image" and all(group["moduleName"] == "default" for group in groups)
        assert all(item["title"] for group in groups for item in group["templates"])
        for name in listed:
            document = server.get(f"/templates/{name}.json").json
            assert document["nodes"] and document["links"]
            picture = server.get(f"/templates/{name}-1.webp")
            if picture.headers["Content-Type"] == "image/webp":
                assert picture.body[8:12] == b"WEBP"
            else:  # its models do not ship: it is drawn
                assert picture.headers["Content-Type"].startswith("image/svg+xml") and b"<svg" in picture.body
        assert server.get("/templates/none.json").status == server.get("/templates/..%2fx.json").status == 404
        first = server.get("/")
        assert first.status == 303 and first.headers["Location"] == "/?template=text_to_image"
        assert server.get(first.headers["Location"]).body == b"<p>editor</p>"
        visited = first.headers["Set-Cookie"].partition(";")[0]
        assert server.get("/", Cookie=visited).body == b"<p>editor</p>", "a reload keeps the session as it is"
        assert server.get("/").status == 303, "another browser is at its first visit"
        server.post("/settings/a", 1)
        assert server.get("/").body == b"<p>editor</p>"
        assert server.get("/user.css").body == b"" and server.get("/user.css").headers["Content-Type"].startswith(
            "text/css"
        )
        server.post("/userdata/user.css", b"body {}")
        assert server.get("/user.css").body == b"body {}"


@pytest.mark.parametrize("name", ["page.html", "page.svg", "page.js", "page.json"])
def test_a_saved_file_is_never_a_page(server, name):
    server.post(f"/userdata/workflows%2F{name}", b"<script>alert(1)</script>")
    headers = server.get(f"/userdata/workflows%2F{name}").headers
    assert headers["Content-Disposition"].startswith("attachment") or headers["Content-Type"] == "application/json"
    assert headers["Content-Type"] in ("application/octet-stream", "application/json")
    assert headers["X-Content-Type-Options"] == "nosniff" and "sandbox" in headers["Content-Security-Policy"]


def test_files_of_the_editor_that_begin_with_a_dot_are_read_and_never_listed(server):
    assert server.post("/userdata/dotted%2F.index.json", b"{}").status == 200
    server.post("/userdata/dotted%2Fmine.json", b"{}")
    assert server.get("/userdata/dotted%2F.index.json").body == b"{}"
    for query in ("", "&recurse=true", "&full_info=true", "&split=true"):
        assert b".index" not in server.get(f"/userdata?dir=dotted{query}").body
    assert server.get("/userdata?dir=dotted").json == ["mine.json"]
    assert [row["name"] for row in server.get("/v2/userdata?path=dotted").json] == ["mine.json"]


def test_a_name_that_is_refused_has_the_reason_in_the_status_line(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("POST", "/userdata/caf%C3%A9%01%2F..%2Fy.json", b"{}", {"Host": "localhost"})
    answer = connection.getresponse()
    told = json.loads(answer.read())["problems"][0]
    assert answer.status == 400 and told["code"] == "bad_name" and answer.reason not in ("Bad Request", "")
    assert answer.reason.isascii() and answer.reason.isprintable()
    connection.close()
