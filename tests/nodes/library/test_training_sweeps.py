"""Several trainings: their data are prepared once, a common beginning is trained once, `explain` states why a training
would be made again, and data of another family are refused."""

import json

import pytest

import graphflow as gf
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


def test_explain_states_why_a_training_would_be_made_again(places, tmp_path):
    settings = settings_of(places, tmp_path)
    run(settings, tmp_path / "cache", wanted(), "show")

    def why(workflow, node="t"):
        with engine_of(settings, tmp_path / "cache") as engine:
            return next(one.why for one in engine.explain(workflow) if one.node == node)

    assert "the nodes that it brings are cached one by one" in why(wanted(), "d")
    assert "only the run shows whether its input is the same (`training_set`, node d)" in why(wanted())
    assert "`learning_rate` 0.001 -> 1e-05" in why(wanted().set("t.learning_rate", 1e-5))
    caption = places / "input" / "both" / "1.txt"
    before = caption.read_text()
    caption.write_text("another thing")
    assert "upstream will be computed (`training_set`, node d)" in why(wanted(), "first")
    caption.write_text(before)
    events = []
    run(settings, tmp_path / "cache", wanted(), "show", on_event=events.append)
    assert not {event.node for event in events if isinstance(event, gf.NodeStarted)} & {"first", "t"}


def test_a_base_of_another_family_is_refused_with_the_image_that_does_not_fit(places, tmp_path):
    document = wanted().to_json()
    document["z"] = {"class_type": "UNETLoader", "inputs": {"unet_name": Z_IMAGE, "weight_dtype": "default"}}
    document["first"]["inputs"]["model"] = ["z", 0]
    found = wrong(settings_of(places, tmp_path), tmp_path / "cache", document, "first")
    assert found == "training_set: both/0.png: a latent [4, 8, 8], Z-Image has 16 channels"
