"""Several trainings: their data are prepared once, a common beginning is trained once, `explain` states why a training
would be made again, and data of another family are refused."""

import json
import shutil

import pytest
from PIL import Image

import graphflow as gf
from graphflow.cli import main
from tests.graphs import graph
from tests.nodes.families import tiny_flow
from tests.nodes.library.training_runs import draw_things, engine_of, networks_in, run, settings_of, wrong

Z_IMAGE = "z_image_turbo_bf16.safetensors"


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    root = networks_in(tmp_path_factory.mktemp("sweeps"))
    draw_things(root / "input" / "both", (((64, 64), "red", "thing 0"), ((64, 64), "lime", "thing 1")), (8, 8, 30, 30))
    tiny_flow.save(root / "models", Z_IMAGE)
    return root


def wanted():
    """A LoRA of a small new model, trained in two parts."""
    stated = {"model": "@m", "training_set": "@d", "batch_size": 2, "rank": 2, "learning_rate": 1e-3}
    return graph(
        m=("NewModel", {"architecture": "small", "seed": 1}),
        d=("TrainingFolder", {"vae": "@m:2", "clip": "@m:1", "folder": "both", "resolution": 64}),
        first=("TrainLora", {**stated, "steps": 2}),
        t=("TrainLora", {**stated, "steps": 1, "state": "@first:2"}),
        show=("PreviewAny", {"source": "@t:1"}),
    )


def test_a_sweep_over_rank_rate_and_seed_prepares_the_data_once_and_shares_what_begins_alike(places, tmp_path):
    axes = {("first.rank", "t.rank"): [(2, 2), (3, 3)], "t.learning_rate": [1e-3, 1e-4], "first.seed": [0, 1]}
    events = []
    with engine_of(settings_of(places, tmp_path), tmp_path / "cache") as engine:
        found = gf.sweep(wanted(), axes).run(engine, targets=["t"], on_event=events.append)
    begun = [event.node for event in events if isinstance(event, gf.NodeStarted)]
    for part in ("image", "latent", "text"):
        assert sorted(node for node in begun if node.startswith(f"d.0.{part}") and node[-1].isdigit()) == [
            f"d.0.{part}0",
            f"d.0.{part}1",
        ]
    assert sum(node.partition("@")[0] == "first" for node in begun) == 4, "two ranks and two seeds, not eight"
    assert sum(node.partition("@")[0] == "t" for node in begun) == 8
    states = {json.dumps(one["t"].outputs["losses"]["training"]) for one in found}
    assert len(found) == 8 and len(states) >= 4


def test_explain_names_what_a_training_would_be_made_again_for(places, tmp_path, capsys):
    settings = settings_of(places, tmp_path)
    folder = shutil.copytree(places / "input" / "both", places / "input" / "mine")
    mine = wanted().set("d.folder", "mine")
    run(settings, tmp_path / "cache", mine, "show")

    def why(workflow=mine):
        """Node -> the line of `explain`, in a process that has not run it, up to the time of that run."""
        with engine_of(settings, tmp_path / "cache") as engine:
            return {one.node: str(one).partition(": ")[2].partition(" since")[0] for one in engine.explain(workflow)}

    upstream = "miss, upstream will be computed (`training_set`, node d)"
    same = why()
    assert same["d"] == "hit, its inputs have the same content" and same["show"].startswith("hit")
    assert same["first"] == same["t"] == "hit, its inputs have the same content"
    rate = why(mine.set("t.learning_rate", 1e-5))
    assert rate["d"].startswith("hit") and rate["first"].startswith("hit")
    assert rate["t"] == "miss, `learning_rate` 0.001 -> 1e-05"
    base = why(mine.set("m.seed", 2))
    assert base["m"] == "miss, `seed` 1 -> 2"
    assert "upstream will be computed (`model`, node m)" in base["first"]
    assert base["d"] == "miss, upstream will be computed (`clip`, node m); upstream will be computed (`vae`, node m)"

    (folder / "1.txt").write_text("another thing")
    assert why()["d"] == "miss, the caption of mine/1.png changed" and why()["first"] == upstream
    (tmp_path / "w.json").write_text(json.dumps(mine.to_json()))
    places_of = ["--input-dir", places / "input", "--models", places / "models", "--cache-dir", tmp_path / "cache"]
    assert main(["explain", str(tmp_path / "w.json"), "--device", "cpu", *map(str, places_of)]) == 0
    assert "miss, the caption of mine/1.png changed since the run of" in capsys.readouterr().out
    (folder / "1.txt").write_text("thing 1")
    assert why()["first"].startswith("hit")

    Image.new("RGB", (64, 64), "gold").save(folder / "0.png")
    assert why()["d"] == "miss, mine/0.png changed"
    Image.new("RGB", (64, 64), "pink").save(folder / "2.png")
    (folder / "2.txt").write_text("thing 2")
    assert why()["d"] == "miss, mine/2.png is new; mine/0.png changed"
    run(settings, tmp_path / "cache", mine, "d")
    assert why()["d"].startswith("hit")
    (folder / "0.png").unlink()
    assert why()["d"] == "miss, mine/0.png is gone"


def test_a_base_of_another_family_is_refused_with_the_image_that_does_not_fit(places, tmp_path):
    document = wanted().to_json()
    document["z"] = {"class_type": "UNETLoader", "inputs": {"unet_name": Z_IMAGE, "weight_dtype": "default"}}
    document["first"]["inputs"]["model"] = ["z", 0]
    found = wrong(settings_of(places, tmp_path), tmp_path / "cache", document, "first")
    assert found == "training_set: both/0.png: a latent [4, 8, 8], Z-Image has 16 channels"
