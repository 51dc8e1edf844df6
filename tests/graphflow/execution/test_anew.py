"""Too little memory for shared passes: the sampler begins anew in passes of its own size, in a run and in a sweep."""

from pathlib import Path

import pytest
import torch
from graphflow_nodes.devices import forward
from PIL import Image

import graphflow as gf
from graphflow.spi import NodeAnew, NodeDone, NodeError, PassesMade, RunStarted

GRAPH = gf.Workflow.load("workflows/text_to_image.json").set_all(
    {"EmptyLatentImage.batch_size": 1, "EmptyLatentImage.width": 64, "EmptyLatentImage.height": 64, "KSampler.steps": 3}
)
SAMPLER, SAVE = GRAPH.find("KSampler"), GRAPH.find("SaveImage")


@pytest.fixture
def short(monkeypatch):
    """From now on the device has no memory for passes of more than two rows; gives the sizes that were tried."""

    def begin():
        tried, once = [], forward._forward_once

        def scarce(call, rows, device):
            tried.append(len(rows))
            if len(rows) > 2:
                raise torch.OutOfMemoryError("injected")
            return once(call, rows, device)

        monkeypatch.setattr(forward, "_forward_once", scarce)
        return tried

    return begin


def engine(folder, **options):
    return gf.Engine(settings=gf.Settings(output_dir=folder, **options), cache=gf.Cache(folder / "cache"))


def pixels(result):
    with Image.open(result.images[0].path) as opened:
        return opened.tobytes()


def test_a_run_goes_on_with_the_bits_and_the_recipe_of_one_that_shares_nothing(tmp_path, short):
    with engine(tmp_path / "alone") as alone:
        wanted = pixels(alone.run(GRAPH))
    tried, events = short(), []
    with engine(tmp_path / "short", together=8) as made:
        result = made.run(GRAPH, on_event=events.append)
        assert pixels(result) == wanted
        assert max(tried) > 2 and tried[-1] == 2
        (anew,) = [event for event in events if isinstance(event, NodeAnew)]
        assert anew.node == SAMPLER and "too little memory" in anew.problem
        assert not any(isinstance(event, NodeError) for event in events)
        assert sum(isinstance(event, RunStarted) for event in events) == 1
        done = [event.node for event in events if isinstance(event, NodeDone)]
        assert done.count(SAMPLER) == 1 and SAVE in done
        assert sum(event.rows for event in events if isinstance(event, PassesMade)) == 6
    with engine(tmp_path / "short") as plain:
        events.clear()
        plain.run(GRAPH, on_event=events.append)
        assert not any(isinstance(event, NodeDone) for event in events), "cached as what a run alone gives"


def test_the_variants_of_a_sweep_that_memory_is_too_short_for_have_the_images_of_runs_alone(tmp_path, short):
    seeds = {"KSampler.seed": range(3), "SaveImage.filename_prefix": ["a", "b"]}
    sweep = gf.sweep(GRAPH, seeds)
    with engine(tmp_path / "alone") as alone:
        wanted = [pixels(item) for item in sweep.run(alone, exact=True)]
    short()
    with engine(tmp_path / "short") as made:
        results = sweep.run(made)
        assert not results.failed
        assert [pixels(item) for item in results] == wanted
        assert results.ran[SAMPLER] == 3
        files = sorted(path.name for path in Path(tmp_path / "short").glob("*.png"))
        assert len(files) == 6
        again = sweep.run(made, exact=True)
        assert again.ran[SAMPLER] == 0, "the images are cached as those of runs alone"


def test_memory_that_is_short_for_passes_of_its_own_size_too_fails_it_once(tmp_path, monkeypatch):
    def full(call, rows, device):
        raise torch.OutOfMemoryError("injected")

    monkeypatch.setattr(forward, "_forward_once", full)
    events = []
    with engine(tmp_path, together=8) as made, pytest.raises(gf.NodeFailed) as caught:
        made.run(GRAPH, on_event=events.append)
    (problem,) = caught.value.problems
    assert problem.code == "out_of_memory" and "2 rows" in problem.message
    assert sum(isinstance(event, NodeAnew) for event in events) == 1
    assert sum(isinstance(event, NodeError) for event in events) == 1
