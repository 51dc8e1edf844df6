"""What a user of the command line sees of the cache."""

import json
import os
import re
import time
from pathlib import Path

import pytest

WORKFLOWS = Path(__file__).parents[3] / "workflows"


@pytest.fixture
def picture(tmp_path):
    """A text-to-image workflow with the built-in model and two steps; `picture(prefix="x")` changes an input."""
    document = json.loads((WORKFLOWS / "text_to_image.json").read_text())

    def write(**changes):
        for node in document.values():
            for name, value in changes.items():
                if name in node["inputs"] and not isinstance(node["inputs"][name], list):
                    node["inputs"][name] = value
        path = tmp_path / "picture.json"
        path.write_text(json.dumps(document))
        return path

    write(steps=2, batch_size=1)
    return write


def outcome(done):
    """Title -> what happened."""
    return dict(re.findall(r"^(.+?): (cached|done)", done.err, re.M))


def test_the_second_run_in_a_new_process_is_all_cached_quick_and_never_imports_torch(process, picture):
    path = picture()
    first = process.here("run", path)
    assert first.code == 0 and set(outcome(first).values()) == {"done"}
    again = process("run", path)
    assert set(outcome(again).values()) == {"cached"} and outcome(again).keys() == outcome(first).keys()
    assert again.out == first.out != ""
    loaded = process("run", path, options=("-X", "importtime"))
    modules = {line.rpartition("|")[2].strip() for line in loaded.err.splitlines() if line.startswith("import time:")}
    assert "graphflow.engine" in modules
    assert not modules & {"torch", "diffusers", "transformers", "numpy", "PIL", "safetensors", "aiohttp"}


def test_a_new_negative_prompt_computes_only_what_stands_on_it(process, picture):
    process.here("run", picture())
    document = json.loads(picture().read_text())
    document["7"]["inputs"]["text"] = "blurry, ugly"
    path = picture()
    path.write_text(json.dumps(document))
    found = outcome(process.here("run", path))
    assert found == {
        "Negative Prompt": "done",
        "KSampler": "done",
        "VAE Decode": "done",
        "Save Image": "done",
        "Load Checkpoint": "cached",
        "Empty Latent Image": "cached",
        "Positive Prompt": "cached",
    }


def test_a_new_file_name_prefix_only_saves_again(process, picture):
    process.here("run", picture())
    found = outcome(process.here("run", picture(filename_prefix="other")))
    assert {title for title, what in found.items() if what == "done"} == {"Save Image"}


def test_a_picture_that_was_deleted_is_written_again_from_the_cache(process, picture, tmp_path):
    first = process.here("run", picture())
    (tmp_path / first.out.strip()).unlink()
    again = process.here("run", picture())
    assert {title for title, what in outcome(again).items() if what == "done"} == {"Save Image"}
    assert (tmp_path / again.out.strip()).is_file()


def test_refresh_computes_everything_and_replaces_and_no_cache_neither_reads_nor_writes(process, small, tmp_path):
    process.here("run", small())
    assert process.calls() == ["Slow", "Tell"]
    process.here("run", small(), "--refresh")
    assert process.calls() == ["Slow", "Tell"] * 2
    process.here("run", small())
    assert process.calls() == ["Slow", "Tell"] * 2
    process.here("run", small(), "--no-cache")
    assert process.calls() == ["Slow", "Tell"] * 3
    process("run", small(), "--no-cache", GRAPHFLOW_CACHE=str(tmp_path / "other"))
    assert not (tmp_path / "other").exists()


@pytest.fixture
def small(tmp_path):
    def write(value=1, seconds=0.0, kind="Slow"):
        path = tmp_path / "small.json"
        path.write_text(
            json.dumps(
                {
                    "1": {
                        "class_type": kind,
                        "inputs": {"value": value} | ({"seconds": seconds} if kind == "Slow" else {}),
                    },
                    "2": {"class_type": "Tell", "inputs": {"value": ["1", 0]}},
                }
            )
        )
        return path

    return write


def test_a_cached_run_tells_its_outputs_as_events_like_a_fresh_one(process, small):
    def shown(done):
        events = [json.loads(line) for line in done.out.splitlines()]
        return [event["ui"] for event in events if event.get("node") == "2" and event.get("ui")]

    fresh = process.here("run", small(), "--json")
    again = process.here("run", small(), "--json")
    assert shown(fresh) == shown(again) == [{"value": [2]}]
    assert process.calls() == ["Slow", "Tell"]


def test_the_folder_is_named_by_option_or_environment_or_is_the_users_cache_folder(
    process, small, tmp_path, monkeypatch
):
    from graphflow.cache import default_folder

    process.here("run", small(), "--cache-dir", tmp_path / "by option")
    assert any((tmp_path / "by option").iterdir()) and not (tmp_path / "cache").exists()
    process.here("run", small())
    assert any((tmp_path / "cache").iterdir())
    monkeypatch.delenv("GRAPHFLOW_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_folder() == tmp_path / "xdg" / "graphflow"


# -- explain --------------------------------------------------------------------------------------------------------


def test_explain_says_for_each_node_whether_it_is_a_hit_and_why(process, picture):
    path = picture(cfg=7.0)
    lines = process.here("explain", path).out.splitlines()
    assert "KSampler: miss, no earlier run of it is known" in lines
    process.here("run", path)
    lines = process.here("explain", path).out.splitlines()
    assert lines[-1] == "7 of 7 nodes are cached"
    assert all(re.fullmatch(r".+: hit, nothing has changed since the run of \d\d:\d\d", line) for line in lines[:-1])

    out = process.here("explain", picture(cfg=7.5)).out
    assert re.search(r"^KSampler: miss, `cfg` 7\.0 -> 7\.5 since the run of \d\d:\d\d$", out, re.M)
    assert re.search(r"^VAE Decode: miss, upstream will be computed \(`samples`, node 3\)", out, re.M)
    assert re.search(r"^Positive Prompt: hit, nothing has changed since the run of", out, re.M)
    assert "4 of 7 nodes are cached" in out


def test_explain_runs_nothing_and_loads_no_torch_and_counts_as_no_use(process, picture, tmp_path):
    process.here("run", picture())
    found = process("explain", picture(), options=("-X", "importtime"))
    assert "7 of 7" in found.out and not re.search(r"\| +torch$", found.err, re.M)
    before = process.here("cache", "stats").out
    process.here("explain", picture())
    assert process.here("cache", "stats").out == before


def test_explain_names_the_file_that_changed(process, tmp_path):
    from PIL import Image

    (tmp_path / "input").mkdir()
    Image.new("RGB", (8, 8), "red").save(tmp_path / "input" / "a.png")
    path = tmp_path / "load.json"
    path.write_text(
        json.dumps(
            {
                "1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}},
                "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
            }
        )
    )
    process.here("run", path)
    Image.new("RGB", (8, 8), "blue").save(tmp_path / "input" / "a.png")
    out = process.here("explain", path).out
    assert re.search(r"^LoadImage: miss, the file changed since the run of", out, re.M), out


def test_explain_tells_an_early_cutoff_a_new_version_and_a_node_that_is_new_every_time(registry, graph):
    import graphflow as gf

    with gf.Engine(registry) as engine:
        build = lambda n, d=False: graph(  # noqa: E731
            n=("Number", {"value": n}),
            s=("Sign", {"a": "@n"}),
            a=("Add", {"a": "@s"}),
            o=("Show", {"value": "@a"}),
            **({"d": ("Dice", {}), "p": ("Show", {"value": "@d"})} if d else {}),
        )
        engine.run(build(3))
        engine.run(build(4, True), targets=["s", "d"])
        found = {item.node: str(item) for item in engine.explain(build(4, True))}
        assert found["n"].startswith("Number: hit, nothing has changed")
        assert found["a"] == "Add: hit, upstream changed, same content"
        assert found["o"] == "Show [o]: hit, upstream changed, same content", "two nodes are called Show"
        assert found["d"] == "Dice: miss, it gives something new every time"
        engine.cache.memory.budget = 0
        assert "Number: miss" in {item.node: str(item) for item in engine.explain(build(9))}["n"]


def test_explain_says_that_code_or_libraries_changed(graph):
    import graphflow as gf

    def kinds(version, library):
        @gf.node("Work", version=version, environment=lambda _: f"library {library}", output=True)
        def work() -> gf.Ui:
            return gf.Ui({})

        return gf.Registry([work])

    cache = gf.Cache()
    workflow = graph(w=("Work", {}))
    gf.Engine(kinds("1", 1), cache=cache).run(workflow)

    def why(version, library):
        return str(gf.Engine(kinds(version, library), cache=cache).explain(workflow)[0])

    assert re.fullmatch(r"Work: miss, the code of the node changed since the run of \d\d:\d\d", why("2", 1))
    assert re.fullmatch(r"Work: miss, library 1 -> library 2 since the run of \d\d:\d\d", why("1", 2))
    assert "hit" in why("1", 1)


# -- cache stats, verify, prune, clear ------------------------------------------------------------------------------


def test_stats_show_bytes_by_node_type_hits_and_time_saved(process, small, tmp_path):
    process.here("run", small(seconds=0.3))
    process.here("run", small(seconds=0.3))
    process.here("run", small(seconds=0.3))
    lines = process.here("cache", "stats").out.splitlines()
    assert str(tmp_path / "cache") in lines[0]
    row = next(line.split() for line in lines if line.startswith("Slow"))
    assert row[1] == "1" and row[-3:-1] == ["2", "0.6"]
    assert any(line.startswith("all") for line in lines)


def test_verify_says_what_is_damaged_and_removes_it(process, small, tmp_path):
    noise = tmp_path / "noise.json"
    noise.write_text(
        json.dumps(
            {
                "1": {"class_type": "Noise", "inputs": {}},
                "2": {"class_type": "Tell", "inputs": {"latent": ["1", 0]}},
            }
        )
    )
    process.here("run", noise)
    found = process.here("cache", "verify")
    assert found.code == 0 and "1 blobs are good, 0 were damaged" in found.out
    (blob,) = (path for path in (tmp_path / "cache").glob("v*/blobs/*/*"))
    blob.write_bytes(blob.read_bytes()[:-1])
    found = process.here("cache", "verify")
    assert found.code == 1 and "1 were damaged" in found.out and not blob.exists()
    assert process.here("cache", "verify").code == 0


def test_prune_by_age_and_by_size_and_clear(process, tmp_path):
    noise = tmp_path / "noise.json"
    for seed in range(4):
        noise.write_text(
            json.dumps(
                {
                    "1": {"class_type": "Noise", "inputs": {"seed": seed, "size": 128}},
                    "2": {"class_type": "Tell", "inputs": {"latent": ["1", 0]}},
                }
            )
        )
        process.here("run", noise)
        time.sleep(0.02)

    def blobs():
        return len(list((tmp_path / "cache").glob("v*/blobs/*/*")))

    assert blobs() == 4
    assert process.here("cache", "prune").code != 0
    assert "0 entries removed" in process.here("cache", "prune", "--older-than", "1h").out and blobs() == 4
    process.here("cache", "prune", "--to-size", "700KB")
    assert 0 < blobs() < 4
    process.here("run", noise)
    assert process.calls().count("Noise") == 4, "the newest was kept"
    process.here("cache", "prune", "--older-than", "0s")
    assert blobs() == 0
    process.here("run", noise)
    assert blobs() == 1
    process.here("cache", "clear")
    assert blobs() == 0 and process.here("cache", "stats").code == 0
    process.here("run", noise)
    assert blobs() == 1


@pytest.mark.parametrize("what", [["stats"], ["verify"], ["prune", "--to-size", "0"], ["clear"]])
def test_who_only_looks_after_a_cache_makes_none(process, tmp_path, what):
    found = process.here("cache", *what, "--cache-dir", tmp_path / "none")
    assert found.code == 0 and found.out == f"{tmp_path / 'none'}: there is no cache here\n"
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("what", [["stats"], ["verify"], ["prune", "--to-size", "0"], ["clear"]])
def test_a_file_and_a_link_to_nowhere_are_refused_as_a_cache_folder(process, tmp_path, what):
    (tmp_path / "file").write_text("mine")
    found = process.here("cache", *what, "--cache-dir", tmp_path / "file")
    assert found.code == 2 and f"{tmp_path / 'file'} is not a folder" in found.err and not found.out
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    found = process.here("cache", *what, "--cache-dir", tmp_path / "link")
    assert found.code == 2 and f"is a link to {tmp_path / 'gone'}, and there is nothing there" in found.err


def test_a_run_says_that_its_cache_folder_is_a_link_to_nowhere(process, small, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    found = process.here("run", small(), "--cache-dir", tmp_path / "link")
    assert found.code == 0 and f"is a link to {tmp_path / 'gone'}, and there is nothing there" in found.err


@pytest.mark.parametrize("what", [["prune", "--to-size", "0"], ["clear"]])
def test_a_folder_that_cannot_be_changed_is_not_said_to_be_empty(process, small, tmp_path, monkeypatch, what):
    process.here("run", small())
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode, **more: mode != os.W_OK and access(path, mode, **more))
    found = process.here("cache", *what)
    assert found.code == 1 and "nothing was removed" in found.err and not found.out
    monkeypatch.undo()
    process.here("run", small())
    assert process.calls() == ["Slow", "Tell"]
