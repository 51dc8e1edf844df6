"""The status page as a user has it: a real browser on a real server, at the width of a screen and of a phone, by
keyboard where there is one."""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ..browser import CHROMIUM, opened
from ..conftest import served
from .conftest import until

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no browser: apt-get install chromium")
SHIPPED = Path(__file__).parents[3] / "workflows"
SIZES = {"screen": (1280, 900), "phone": (390, 844)}


@pytest.fixture(params=SIZES)
def size(request) -> tuple[int, int]:
    return SIZES[request.param]


ON_A_SCREEN = pytest.mark.parametrize("size", ["screen"], indirect=True)
"""What a phone shows in the same way."""


@pytest.fixture
def page(tmp_path, size):
    with opened(tmp_path / "profile", *size, dark=size[0] < 640) as page:
        yield page
    # A browser reports every answer that is a refusal, and every image that is gone.
    refusals = ("status of 400", "status of 409", "picture.png")
    assert [text for text in page.complaints if not any(words in text for words in refusals)] == []


SEEDS = itertools.count(1)


def workflow(text="a red apple on a blue background", steps=2, batch=1) -> dict[str, Any]:
    """With a seed of its own, so that no result of another test is in the cache."""
    graph, seed = json.loads((SHIPPED / "text_to_image.json").read_text()), next(SEEDS)
    graph["3"]["inputs"] |= {"seed": seed, "steps": steps}
    graph["5"]["inputs"]["batch_size"] = batch
    graph["6"]["inputs"]["text"] = text
    return graph


def long_run(text="slow", steps=600, seconds=0.1) -> dict[str, Any]:
    return {
        "1": {
            "class_type": "Steps",
            "inputs": {"text": text, "steps": steps, "seconds": seconds},
            "_meta": {"title": "Long"},
        },
        "2": {"class_type": "Write", "inputs": {"text": ["1", 0]}},
    }


def named(graph, name="text_to_image", client="ana") -> dict[str, Any]:
    return {"prompt": graph, "extra_data": {"workflow_name": name, "client_name": client}}


def waiting(server) -> list[str]:
    jobs = server.get("/jobs?status=pending&sort_by=priority&sort_order=asc").json["jobs"]
    return [job["summary"]["text"] for job in jobs]


def fits(page) -> bool:
    return page.evaluate("document.documentElement.scrollWidth <= innerWidth")


UNNAMED = """
[...document.querySelectorAll('button, a[href], input:not([type=hidden]), select, textarea, img, dialog[open]')]
  .filter(e => e.checkVisibility() && !e.closest('[aria-hidden=true]'))
  .filter(e => e.tagName === 'IMG' ? !e.hasAttribute('alt')
    : !(e.getAttribute('aria-label') || e.innerText?.trim() || e.labels?.length || e.getAttribute('aria-labelledby')))
  .map(e => e.outerHTML.slice(0, 120))
"""


def is_named(page) -> bool:
    """Everything that can be used has a name, there is one first heading, and no id stands twice."""
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert page.evaluate(UNNAMED) == []
    assert page.evaluate("document.querySelectorAll('h1').length") == 1
    return len(ids) == len(set(ids))


def test_the_first_visit_offers_a_form_and_ctrl_enter_makes_the_first_image(serve, page, size):
    text = f"a green apple on yellow, {size[0]} wide"
    with serve() as server:
        page.go(f"{server.url}/")
        page.wait_for("Make your first image", "Text to image", "Bring a workflow", "graphflow run text_to_image")
        assert fits(page) and is_named(page)
        page.evaluate("(e => (e.focus(), e.select()))(document.querySelector('textarea'))")
        page.write(text)
        page.evaluate("document.querySelectorAll('.cols input.num')[1].value = '2'")
        page.press("Enter", modifiers=2)
        page.wait_for("Queued at place 1", "Results")
        page.until("document.querySelector('.tile img')?.naturalWidth")
        page.wait_for(text)
        (job,) = server.get("/jobs").json["jobs"]
        assert (job["summary"]["text"], job["summary"]["steps"]) == (text, 2)
        assert (job["summary"]["workflow"], job["summary"]["client"]) == ("text_to_image", "status page")
        assert fits(page) and is_named(page)


def test_a_result_is_looked_at_and_run_again_by_keyboard(serve, page):
    with serve() as server:
        graph = workflow("a red heart", batch=2)
        server.run(graph, extra_data={"workflow_name": "hearts"})
        page.go(f"{server.url}/")
        page.until("document.querySelector('.tile img')?.naturalWidth")
        page.evaluate("document.querySelector('.tile').focus()")
        page.press("Enter")
        page.until("document.querySelector('#large')?.naturalWidth")
        page.wait_for("1 of 2", "hearts", "graphflow-tiny", "euler, normal", "shown")
        assert fits(page) and is_named(page)
        page.press("ArrowRight")
        page.wait_for("2 of 2")
        page.press("s")
        page.wait_for("Queued with seed")
        page.press("c")
        page.wait_for("Workflow copied")
        assert json.loads(page.evaluate("navigator.clipboard.readText()"))["3"]["inputs"]["steps"] == 2
        page.press("r")
        page.wait_for("Queued at place")
        until(lambda: server.get("/jobs?status=completed").json["pagination"]["total"] == 3)
        seeds = [job["summary"]["seed"] for job in server.get("/jobs").json["jobs"]]
        seed = graph["3"]["inputs"]["seed"]
        assert seeds[2] == seeds[0] == seed and seeds[1] != seed
        page.press("Escape")
        page.until("!document.querySelector('#box').open && document.activeElement.matches('.tile')")


def test_a_sound_has_a_tile_and_a_player(serve, page):
    graph = {
        "1": {"class_type": "EmptyAudio", "inputs": {"duration": 2.0, "sample_rate": 48000, "channels": 2}},
        "2": {"class_type": "SaveAudio", "inputs": {"audio": ["1", 0], "filename_prefix": "hum"}},
        "3": {"class_type": "SaveAudioOpus", "inputs": {"audio": ["1", 0], "filename_prefix": "hum"}},
    }
    with serve() as server:
        server.run(graph, extra_data={"workflow_name": "hums"})
        page.go(f"{server.url}/")
        page.wait_for("Sound, 2 files")
        page.evaluate("document.querySelector('.tile').focus()")
        page.press("Enter")
        page.until("Math.abs(document.querySelector('.view audio')?.duration - 2) < 0.1")
        page.wait_for("1 of 2", "hum_00001_.flac")
        page.press("ArrowRight")
        page.wait_for("2 of 2", "hum_00001_.opus")
        page.until("Math.abs(document.querySelector('.view audio')?.duration - 2) < 0.1")
        assert fits(page) and is_named(page)


@ON_A_SCREEN
def test_deleting_waits_for_an_undo_and_then_takes_the_file(serve, page):
    with serve() as server:
        server.run(workflow("a cat"))
        (job,) = server.get("/jobs").json["jobs"]
        file = server.root / "output" / job["preview_output"]["filename"]
        page.go(f"{server.url}/")
        page.click(".tile")
        page.until("document.querySelector('#large')?.naturalWidth")
        page.press("Delete")
        page.wait_for("Deleted, with its files")
        page.until("document.querySelectorAll('.tile').length === 0")
        page.click("#toast button")
        page.until("document.querySelectorAll('.tile').length === 1")
        assert file.exists()
        page.click(".tile")
        page.until("document.querySelector('#large')?.naturalWidth")
        page.press("Delete")
        page.wait_for("Deleted, with its files")
        page.go("about:blank")  # leaving the page sends what waits to be undone
        until(lambda: not file.exists() and server.get("/jobs").json["pagination"]["total"] == 0)


def test_what_runs_shows_the_progress_of_the_whole_and_can_be_stopped(serve, page):
    with serve() as server:
        server.post("/prompt", named(long_run(), "slowly"))
        server.post("/prompt", named(workflow("a sun")))
        page.go(f"{server.url}/")
        page.wait_for("slowly", "of 2 nodes", "Long", "/600", "Up next", "a sun")
        page.until("document.querySelector('#run-bar').value > 0")
        page.until("document.title === '(2) GraphFlow'")  # one that begins may be seen in both lists for a moment
        assert fits(page) and is_named(page)
        page.click("#run-stop")
        page.wait_for("Stopping after this step")
        until(lambda: server.get("/jobs?status=cancelled").json["pagination"]["total"] == 1)
        page.wait_for("Nothing runs", "Stopped after")


@ON_A_SCREEN
def test_what_waits_begins_where_a_place_is_free_first(serve, page):
    with serve() as server:
        page.go(f"{server.url}/")
        starts = """
        import('/page/starts.js').then(({startsOf}) => [[20, 5], [20, null], [], null].map(left => {
          const {starts, end} = startsOf([{id: 'a', expected_seconds: 30}, {id: 'b', expected_seconds: 2}], left)
          return [starts.get('a'), starts.get('b'), end]
        }))
        """
        assert page.evaluate(starts) == [[5, 20, 35], [None, None, None], [0, 30, 32], [None, None, None]]


def test_all_that_runs_is_seen_with_its_worker_and_what_waits_with_its_reason(page, tmp_path):
    with served(tmp_path / "several", queue={"concurrency": 2}) as server:
        for text, client in (("first", "ana"), ("second", "ben"), ("third", "cem")):
            server.post("/prompt", named(long_run(text), text, client))
        until(lambda: server.get("/jobs?status=in_progress").json["pagination"]["total"] == 2)
        page.go(f"{server.url}/")
        page.wait_for("1 more prompt at work", "on local", "2 prompts are at work")
        page.until("document.title === '(3) GraphFlow'")
        reason = "(e => [e.scrollWidth, e.clientWidth])(document.querySelector('.q .why'))"
        needed, given = page.evaluate(reason)
        assert 0 < needed <= given, "the reason can be read to its end"
        assert fits(page) and is_named(page)
        shown = page.evaluate("document.querySelector('.run b').textContent")
        page.click(".beside button")
        page.wait_for("Stopping after this step")
        until(lambda: server.get("/jobs?status=cancelled").json["pagination"]["total"] == 1)
        page.until("document.querySelector('.beside').innerText.includes('third')")
        assert page.evaluate("document.querySelector('.run b').textContent") == shown, "it stays on the card"
        page.click("#run-stop")
        page.until("document.querySelector('.run b')?.textContent === 'third'")
        page.until("document.querySelector('.beside').hidden && document.title === '(1) GraphFlow'")


@ON_A_SCREEN
def test_earlier_runs_tell_how_long_it_takes(serve, page):
    with serve() as server:
        server.run(long_run("first", steps=8))
        for text in ("second", "third"):
            server.post("/prompt", named(long_run(text, steps=8)))
        # The setting of a time is model, size and steps; the workflow is the same.
        assert server.get("/jobs?status=pending,in_progress").json["jobs"][0]["expected_seconds"] > 0.5
        server.post("/queue", {"paused": True})
        page.go(f"{server.url}/")
        page.wait_for("third", "Resume")
        server.post("/queue", {"clear": True, "paused": False})


def test_the_queue_is_ordered_and_emptied_by_keyboard_and_the_last_can_be_undone(serve, page):
    with serve(paused=True) as server:
        for text in ("one", "two", "three"):
            server.post("/prompt", named(workflow(text)))
        page.go(f"{server.url}/")
        page.wait_for("one", "two")
        page.wait_for("Paused" if page.evaluate("innerWidth") < 640 else "Paused, 3 waiting")
        page.evaluate("document.querySelector('.grip').focus()")
        page.press("ArrowDown")
        page.wait_for("Now at place 2 of 3")
        until(lambda: waiting(server) == ["two", "one", "three"])
        assert "one" in page.focused(), "the row that was moved keeps the focus"
        page.press("End")
        until(lambda: waiting(server) == ["two", "three", "one"])
        page.click(".q .acts [title=Remove]")
        page.wait_for("Removed from the queue")
        page.until("!document.querySelector('.queue').innerText.includes('two')")
        page.click("#toast button")
        page.wait_for("two")
        assert waiting(server) == ["two", "three", "one"]
        page.click(".q .acts [title=Remove]")
        page.go("about:blank")
        until(lambda: waiting(server) == ["three", "one"])


def test_a_prompt_that_is_being_removed_does_not_get_to_run(serve, page):
    with serve(paused=True) as server:
        server.post("/prompt", named(long_run("unwanted")))
        page.go(f"{server.url}/")
        page.wait_for("unwanted")
        page.click(".q .acts [title=Remove]")
        page.wait_for("Removed from the queue")
        server.post("/queue", {"paused": False})
        until(lambda: server.get("/jobs?status=cancelled").json["pagination"]["total"] == 1)


def test_an_error_is_shown_in_full_with_its_hint_and_leads_to_the_form(serve, page):
    with serve(paused=True) as server:
        (server.root / "input").mkdir(exist_ok=True)
        image = server.root / "input" / "picture.png"
        Image.new("RGB", (64, 64)).save(image)
        graph = json.loads((SHIPPED / "your_image.json").read_text())
        graph["3"]["inputs"] |= {"steps": 2, "seed": next(SEEDS)}
        server.post("/prompt", named(graph, "your_image"))
        image.unlink()
        server.post("/queue", {"paused": False})
        page.go(f"{server.url}/")
        page.wait_for("Your Image failed", "Show all")
        page.click(".tile")
        page.wait_for("found 'picture.png'", "Copy error", "Edit settings")
        assert fits(page) and is_named(page)
        page.press("e")
        page.until("document.querySelector('#compose').open")
        page.wait_for("Your image")
        Image.effect_noise((80, 60), 80).convert("RGB").save(server.root / "mine.png")
        page.choose_file("#compose input[type=file]", server.root / "mine.png")
        page.until("document.querySelector('.image-drop img').naturalWidth")
        page.evaluate("document.querySelector('#compose textarea').focus()")
        page.press("Enter", modifiers=2)
        page.wait_for("Queued at place")
        until(lambda: server.get("/jobs?status=completed").json["pagination"]["total"] == 1)


@ON_A_SCREEN
def test_what_is_wrong_stands_beside_its_field(serve, page):
    with serve() as server:
        server.run(workflow())
        page.go(f"{server.url}/")
        page.wait_for("Results")
        page.click("#new")
        page.until("document.querySelector('#compose textarea')?.checkVisibility()")
        assert fits(page) and is_named(page)
        page.evaluate("document.querySelectorAll('#compose .cols input.num')[1].value = 'many'")
        page.evaluate("document.querySelector('#compose textarea').focus()")
        page.press("Enter", modifiers=2)
        page.until("document.querySelector('.field-wrong:not([hidden])')?.innerText.includes('many')")
        assert page.evaluate("document.activeElement.getAttribute('aria-invalid')") == "true"
        assert server.get("/jobs").json["pagination"]["total"] == 1
        page.press("Escape")
        page.until("!document.querySelector('#compose').open")


@ON_A_SCREEN
def test_results_are_searched_and_walked_through_by_keyboard(serve, page):
    with serve() as server:
        for text in ("a panda face", "an owl", "a crown"):
            server.run(workflow(text))
        page.go(f"{server.url}/")
        page.until("document.querySelectorAll('.tile').length === 3")
        page.evaluate("document.querySelector('.tile').focus()")
        page.press("ArrowRight", "ArrowRight")
        assert "panda" in page.focused()
        page.press("/")
        page.write("OWL tiny")
        page.until("document.querySelectorAll('.tile').length === 1")
        page.write("zzz")
        page.wait_for("Nothing matches.")
        page.click(".none button")
        page.until("document.querySelectorAll('.tile').length === 3")


@ON_A_SCREEN
def test_single_keys_can_be_switched_off(serve, page):
    with serve() as server:
        server.run(workflow())
        page.go(f"{server.url}/")
        page.wait_for("Results")
        page.press("?")
        page.until("document.querySelector('#keys').open")
        page.click("#keys input")
        page.press("Escape")
        page.until("!document.querySelector('#keys').open")
        page.press("n")
        time.sleep(0.3)
        assert not page.evaluate("document.querySelector('#compose').open")


@ON_A_SCREEN
def test_a_lost_connection_is_reported(page, tmp_path):
    with served(tmp_path) as server:
        server.run(long_run(steps=1))
        page.go(f"{server.url}/")
        page.wait_for("Results")
        assert page.evaluate("document.querySelector('#lost').hidden")
    page.wait_for("Connection lost. Trying again. Your queue is safe.")
    page.complaints.clear()  # the browser reports that it cannot connect


def test_the_page_works_at_320_pixels(serve, tmp_path):
    with serve() as server, opened(tmp_path / "profile", 320, 700) as page:
        server.run(workflow("a very long prompt without any end " * 6))
        server.post("/prompt", named(long_run("x" * 200), "a_name_of_a_workflow_that_is_longer_than_a_phone"))
        page.go(f"{server.url}/")
        page.wait_for("Results", "/600")
        assert fits(page)
        page.click(".tile")
        page.until("document.querySelector('#large')?.naturalWidth")
        assert fits(page)
