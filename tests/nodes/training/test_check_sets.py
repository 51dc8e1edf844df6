"""A training whose folder holds fewer images than a batch is refused before anything runs."""

import pytest

import graphflow as gf
from tests.graphs import graph
from tests.nodes.library.training_runs import draw_things


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    root = tmp_path_factory.mktemp("sets")
    draw_things(
        root / "input" / "two", [((16, 16), "red", "a red thing\na thing"), ((16, 16), "blue", "blue")], (2, 2, 8, 8)
    )
    draw_things(root / "input" / "one", [((16, 16), "lime", "a lime thing")], (2, 2, 8, 8))
    with gf.Engine(settings=gf.Settings(device="cpu", input_dir=root / "input")) as engine:
        yield engine


def found(engine, size, joined=False, **folder):
    data = {"vae": "@m:2", "clip": "@m:1", "resolution": 16, "bucket_step": 8}
    wanted = graph(
        m=("CheckpointLoaderSimple", {"ckpt_name": "graphflow-tiny"}),
        d=("TrainingFolder", {**data, "folder": "two", **folder}),
        e=("TrainingFolder", {**data, "folder": "one"}),
        j=("JoinTrainingSets", {"sets.set0": "@d", "sets.set1": "@e"}),
        t=("TrainLora", {"model": "@m", "training_set": "@j" if joined else "@d", "batch_size": size, "steps": 1}),
        s=("SaveLora", {"lora": "@t"}),
    )
    return [(problem.node, problem.input, problem.message) for problem in engine.check(wanted).problems]


@pytest.mark.parametrize(
    ("stated", "shown"),
    [
        ({}, 2),
        ({"joined": True}, 3),
        ({"caption_lines": "each"}, 3),
        ({"mirror": True}, 4),
        ({"repeats": 5, "mirror": True}, 20),
    ],
)
def test_a_batch_may_be_as_large_as_an_epoch_and_no_larger(engine, stated, shown):
    assert found(engine, shown, **stated) == []
    ((node, input, message),) = found(engine, shown + 1, **stated)
    assert (node, input) == ("t", "batch_size")
    assert message == f"an epoch shows {shown} images, which is less than a batch of {shown + 1}"


def test_what_is_wrong_with_the_folder_itself_is_said_once(engine):
    (problem,) = found(engine, 99, captions="metadata.csv")
    assert problem[:2] == ("d", "captions")
