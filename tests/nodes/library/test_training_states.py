"""A training that breaks down, a disk that is full, and states as files: what was learnt is not lost."""

import resource
import warnings
from contextlib import contextmanager

import pytest
import torch
from safetensors.torch import load_file, save_file

import graphflow as gf
from tests.graphs import graph
from tests.nodes.architectures import write_architecture
from tests.nodes.library.training_runs import draw_things, run, settings_of, steps_of, stopped, wrong


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    root = tmp_path_factory.mktemp("states")
    write_architecture(root / "models" / "checkpoints" / "small")
    draw_things(root / "input" / "things", [((16, 16), "red", "a red thing")] * 2, (2, 2, 8, 8))
    return root


@pytest.fixture
def settings(places, tmp_path):
    return settings_of(places, tmp_path)


def wanted(**options):
    stated = {"steps": 6, "batch_size": 2, "learning_rate": 1e-3, "rank": 2, **options}
    folder = {"vae": "@m:2", "clip": "@m:1", "folder": "things", "resolution": 16, "bucket_step": 8}
    return graph(
        m=("NewModel", {"architecture": "small", "seed": 3}),
        d=("TrainingFolder", folder),
        t=("TrainLora", {"model": "@m", "training_set": "@d", **stated}),
        s=("SaveTrainingState", {"state": "@t:2"}),
        f=("SaveLora", {"lora": "@t", "save_dtype": "float32"}),
    ).to_json()


def going_on(document, name, **options):
    """The same training from a file of a state."""
    inputs = {**document["t"]["inputs"], **options, "state": ["l", 0]}
    load = {"class_type": "LoadTrainingState", "inputs": {"file": name}}
    return {**document, "l": load, "t": {"class_type": "TrainLora", "inputs": inputs}}


def bits(lora):
    return {
        f"{name}.{role}": one.numpy().tobytes() for name, layer in lora["layers"].items() for role, one in layer.items()
    }


def kept(settings):
    return sorted(path.name for path in (settings.output_dir / "training_states").iterdir())


def test_a_state_in_a_file_is_the_state(settings, tmp_path):
    options = {"ema_decay": 0.9, "validate_every": 2, "validation_set": ["d", 0]}
    whole = run(settings, tmp_path / "a", wanted(**options), "t")["t"].outputs
    run(settings, tmp_path / "b", wanted(**options, steps=4), "s")
    (name,) = kept(settings)
    rest = going_on(wanted(**options), name, steps=2)
    found = run(settings, tmp_path / "b", rest, "t")["t"].outputs
    assert bits(found["lora"]) == bits(whole["lora"]) and found["losses"] == whole["losses"]
    first = run(settings, tmp_path / "a", wanted(**options, steps=4), "t")["t"].outputs
    same = run(settings, tmp_path / "b", going_on(wanted(**options), name, steps=0), "t")["t"].outputs
    assert bits(same["lora"]) == bits(first["lora"])
    assert "state: the state is of a training of other weights" in wrong(
        settings, tmp_path / "b", going_on(wanted(), name, rank=1)
    )
    path = settings.output_dir / "training_states" / name
    path.write_bytes(path.read_bytes()[:-100])
    assert f"file: {name} cannot be read" in wrong(settings, tmp_path / "b", going_on(wanted(), name))
    save_file({"x": torch.zeros(1)}, path)
    assert f"file: {name} does not hold the state of a training" in wrong(
        settings, tmp_path / "b", going_on(wanted(), name)
    )
    assert "file: " in wrong(settings, tmp_path / "b", going_on(wanted(), "other.safetensors"))


def test_a_loss_that_is_not_a_number_ends_the_training_and_its_last_good_state_goes_on(settings, tmp_path):
    broken = {"learning_rate": 10.0, "optimizer": "SGD", "max_grad_norm": 0.0, "weight_decay": 10.0, "steps": 200}
    document = wanted(**broken)
    said = wrong(settings, tmp_path / "c", document)
    (name,) = kept(settings)
    assert said.startswith("learning_rate: ") and "with a learning rate of 1.00e+01" in said
    assert "is not a number at step" in said and f"kept in training_states/{name} of the output folder" in said
    weights = load_file(settings.output_dir / "training_states" / name)
    assert all(bool(one.isfinite().all()) for one in weights.values() if one.is_floating_point())
    assert wrong(settings, tmp_path / "c", document) == said and kept(settings) == [name], "the same again, once"
    lower = going_on(document, name, learning_rate=1e-6, weight_decay=0.0, steps=0)
    layers = run(settings, tmp_path / "c", lower, "t")["t"].outputs["lora"]["layers"]
    assert int(name.split("_")[1]) > 0 and all(
        torch.equal(layers[layer][role], weights[f"weights/{layer}.{role}"])
        for layer in layers
        for role in ("down", "up")
    )


@contextmanager
def files_of_at_most(size):
    """Writing more into a file fails in the middle, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_where_a_disk_is_full_the_last_whole_state_stays_and_the_training_goes_on_from_it(settings, tmp_path):
    document = wanted(optimizer="AdamW", rank=64)
    whole = run(settings, tmp_path / "whole", document, "t")["t"].outputs
    stopped(settings, tmp_path / "cut", document, 3)
    events = []
    with warnings.catch_warnings(record=True) as said, files_of_at_most(1 << 16):
        warnings.simplefilter("always")
        with pytest.raises(gf.GraphFlowError) as caught:
            run(settings, tmp_path / "cut", document, "f", on_event=events.append)
    assert steps_of(events)[0] == 3 and steps_of(events)[-1] == 6, "it is trained to its end"
    about = " ".join(str(one.message) for one in said)
    assert "the state of a node is not kept" in about and "make room" in about
    (problem,) = caught.value.problems
    assert "loras/graphflow" in problem.message and "cannot be written" in problem.message
    assert "make room" in problem.hint
    events.clear()
    found = run(settings, tmp_path / "cut", document, "t", on_event=events.append)["t"].outputs
    assert steps_of(events)[0] == 3, "it goes on from the last whole state"
    assert bits(found["lora"]) == bits(whole["lora"])


def test_in_fp16_the_loss_is_scaled_and_a_stop_changes_no_bit(settings, tmp_path):
    document = wanted(mixed_precision="fp16", ema_decay=0.9)
    whole = run(settings, tmp_path / "whole", document, "t")["t"].outputs
    assert whole["state"]["scaler"]["scale"] > 1 and whole["state"]["scaler"]["_growth_tracker"] > 0
    assert stopped(settings, tmp_path / "cut", document, 3)[-1] == 3
    found = run(settings, tmp_path / "cut", document, "t")["t"].outputs
    assert bits(found["lora"]) == bits(whole["lora"]) and found["state"]["scaler"] == whole["state"]["scaler"]
    plain = run(settings, tmp_path / "cut", wanted(ema_decay=0.9), "t")["t"].outputs
    assert bits(plain["lora"]) != bits(whole["lora"]) and plain["state"]["scaler"] is None
    assert whole["losses"]["training"] == pytest.approx(plain["losses"]["training"], rel=0.02)
