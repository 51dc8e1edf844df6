"""The status page for everybody: both themes, three widths, a screen reader, a mouse that drags, the keyboard alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ..browser import CHROMIUM, BrowserPage, opened
from .conftest import until
from .test_status_page import fits, is_named, long_run, named, waiting, workflow

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no browser: apt-get install chromium")
HARD_TO_USE = Path(__file__).with_name("contrast.js").read_text(encoding="utf-8")
WIDTHS = {"screen": (1280, 900), "tablet": (768, 1024), "phone": (390, 844)}


def with_results(server) -> None:
    """Three results, one of them a failure, one run that goes on, and three that wait."""
    (server.root / "input").mkdir(exist_ok=True)
    picture = server.root / "input" / "picture.png"
    Image.new("RGB", (64, 64)).save(picture)
    server.post("/queue", {"paused": True})
    load = {"class_type": "LoadImage", "inputs": {"image": "picture.png"}, "_meta": {"title": "Your Image"}}
    server.post("/prompt", {"prompt": {"1": load, "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}}})
    picture.unlink()
    server.post("/queue", {"paused": False})
    server.post("/prompt", {"prompt": workflow("a panda face", batch=2)})
    server.post("/prompt", {"prompt": workflow("an owl at night, and more words than one line of a tile can hold")})
    until(lambda: server.get("/jobs?status=completed,failed").json["pagination"]["total"] == 3)
    server.post("/prompt", named(long_run(steps=900, seconds=1.0), "slowly"))
    for text in ("one", "two", "three"):
        server.post("/prompt", named(workflow(text)))


def look(page: BrowserPage, what: str, folder: Path) -> None:
    """Everything on the page can be read and hit; the page as it was lies in the folder where that is not so."""
    page.screenshot(folder / f"{what}.png")
    assert page.evaluate(HARD_TO_USE) == [], what
    assert fits(page) and is_named(page), what


@pytest.mark.parametrize("dark", (False, True), ids=("light", "dark"))
def test_everything_can_be_read_and_hit_at_each_width(serve, tmp_path, dark):
    with serve() as server:
        with_results(server)
        for name, (width, height) in WIDTHS.items():
            with opened(tmp_path / name, width, height, dark=dark) as page:
                page.go(f"{server.url}/")
                page.wait_for("/900", "one", "Your Image failed")
                page.until("document.querySelectorAll('.tile img').length === 2")
                look(page, f"{name}-busy", tmp_path)
                page.click(".tile", 0)
                page.until("document.querySelector('#large')?.naturalWidth")
                look(page, f"{name}-result", tmp_path)
                page.press("Escape", "n")
                page.until("document.querySelector('#compose textarea')?.checkVisibility()")
                look(page, f"{name}-form", tmp_path)
                page.press("Escape")
                page.until("!document.querySelector('#compose').open")
                page.evaluate("document.activeElement.blur()")
                page.press("?")
                page.until("document.querySelector('#keys').open")
                look(page, f"{name}-keys", tmp_path)


def tree(page: BrowserPage) -> list[tuple[str, str, dict[str, Any]]]:
    """Role, name and properties of everything that a screen reader is given."""
    found = []
    for node in page.ask("Accessibility.getFullAXTree")["nodes"]:
        if not node.get("ignored"):
            properties = {each["name"]: each["value"].get("value") for each in node.get("properties", ())}
            found.append((node["role"]["value"], node.get("name", {}).get("value", ""), properties))
    return found


def test_a_screen_reader_is_given_names_landmarks_and_reports(serve, tmp_path):
    with serve() as server, opened(tmp_path / "profile") as page:
        with_results(server)
        page.go(f"{server.url}/")
        page.wait_for("/900", "one", "Your Image failed")
        seen = tree(page)
        names = {(role, name) for role, name, _ in seen}
        assert {
            ("progressbar", "Whole workflow"),
            ("searchbox", "Search results"),
            ("list", "Waiting prompts, next first"),
            ("button", "Move “one”, place 1 of 3"),
            ("button", "Remove: three"),
            ("region", "Running"),
            ("radiogroup", "Show"),
            ("link", "Skip to content"),
        } <= names
        assert {"banner", "main", "complementary"} <= {role for role, _, _ in seen}
        used = ("button", "link", "textbox", "searchbox", "checkbox", "radio", "combobox", "progressbar", "dialog")
        assert [role for role, name, _ in seen if role in used and not name.strip()] == []
        reports = [properties for role, _, properties in seen if role == "status"]
        assert reports and all(each.get("live") == "polite" for each in reports)
        said = page.evaluate("document.querySelector('#run-said').innerText")
        assert "Long" in said and "/900" not in said, "a node is reported, not each of its steps"


def test_a_waiting_prompt_is_dragged_with_the_mouse(serve, tmp_path):
    with serve(paused=True) as server, opened(tmp_path / "profile", 768, 1024) as page:
        for text in ("one", "two", "three", "four"):
            server.post("/prompt", named(workflow(text)))
        page.go(f"{server.url}/")
        page.wait_for("one", "four")
        drag(page, ".grip", 0, ".q", 2)
        until(lambda: waiting(server) == ["two", "three", "one", "four"])
        page.until("[...document.querySelectorAll('.q .t')].map(e => e.innerText).join() === 'two,three,one,four'")
        drag(page, ".grip", 3, ".q", 0)
        until(lambda: waiting(server) == ["four", "two", "three", "one"])
        assert fits(page)


def drag(page: BrowserPage, handle: str, index: int, target: str, place: int) -> None:
    """Press the mouse on one thing, move it to the middle of another one, and let go."""
    middle = (
        "(r => [r.x + r.width / 2, r.y + r.height / 2])(document.querySelectorAll('{}')[{}].getBoundingClientRect())"
    )
    page.until_still(middle.format(target, place))
    x, y = page.evaluate(middle.format(handle, index))
    _, end = page.evaluate(middle.format(target, place))
    end += 4 if end > y else -4
    page.ask("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    page.ask("Input.dispatchMouseEvent", type="mousePressed", x=x, y=y, button="left", clickCount=1)
    for step in range(1, 11):
        at = y + (end - y) * step / 10
        page.ask("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=at, button="left", buttons=1)
    page.ask("Input.dispatchMouseEvent", type="mouseReleased", x=x, y=end, button="left", clickCount=1)


def tab_to(page: BrowserPage, *words: str, most: int = 60) -> None:
    """Press Tab until the focus is on something with these words; it must be seen that it has the focus."""
    for _ in range(most):
        if page.evaluate("document.activeElement !== document.body") and any(word in page.focused() for word in words):
            style = (
                "(s => s.outlineStyle !== 'none' || s.boxShadow !== 'none')(getComputedStyle(document.activeElement))"
            )
            assert page.evaluate(f"document.activeElement.matches(':focus-visible') && {style}"), words
            return
        page.press("Tab")
    raise AssertionError(f"no Tab leads to {words}; the focus is on {page.focused()!r}")


def test_tab_and_enter_alone_make_move_look_at_and_delete(serve, tmp_path):
    with serve() as server, opened(tmp_path / "profile") as page:
        server.post("/prompt", named(workflow("a crown")))
        until(lambda: server.get("/jobs?status=completed").json["pagination"]["total"] == 1)
        server.post("/queue", {"paused": True})
        server.post("/prompt", named(workflow("first")))
        page.go(f"{server.url}/")
        page.until("document.querySelector('.tile img')?.naturalWidth")
        tab_to(page, "Skip to content")
        tab_to(page, "New image")
        page.press("Enter")
        page.until("document.querySelector('#compose textarea')?.checkVisibility()")
        page.until("document.activeElement.matches('textarea')")
        page.ask("Input.dispatchKeyEvent", type="keyDown", key="a", commands=["selectAll"])
        page.write("a sun")
        tab_to(page, "Run")
        page.press("Enter")
        page.wait_for("Queued at place 2")
        until(lambda: waiting(server) == ["first", "a sun"])
        page.until("[...document.querySelectorAll('.q .t')].map(e => e.innerText).join() === 'first,a sun'")
        tab_to(page, "Move “a sun”")
        page.press("ArrowUp")
        until(lambda: waiting(server) == ["a sun", "first"])
        tab_to(page, "Remove: first")
        page.press("Enter")
        page.wait_for("Removed from the queue")
        page.evaluate("document.activeElement.blur()")
        tab_to(page, "a crown")
        page.press("Enter")
        page.until("document.querySelector('#large')?.naturalWidth")
        tab_to(page, "Delete")
        page.press("Enter")
        page.wait_for("Deleted, with its files")
        page.go("about:blank")
        until(lambda: server.get("/jobs?status=completed").json["pagination"]["total"] == 0)
        assert waiting(server) == ["a sun"]
