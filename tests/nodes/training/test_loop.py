"""The loop by itself, with a loss that is written down."""

from threading import Event

import pytest
import torch
from graphflow_nodes.devices.use import open_device
from graphflow_nodes.training.loop import train
from graphflow_nodes.training.options import LoopOptions
from graphflow_nodes.training.state_file import read_state

import graphflow as gf


class Slope:
    """A loss that falls by `slope` for each unit of one weight."""

    def __init__(self, weight, slope):
        self.weight, self.slope = weight, slope

    def sum(self, numbers, step):
        return (self.weight * self.slope).sum() * len(numbers)

    def fixed(self, data, levels=4):
        return float(self.weight.sum())


class Shown:
    buckets = (((1,), 1),)
    shown = 1


def made(tmp_path, steps, slope, start=None, precision=None, **options):
    settings = gf.Settings(device="cpu", output_dir=tmp_path)
    weight = torch.nn.Parameter(torch.zeros(1))
    context = gf.Context("t", settings, dict, lambda event: None, Event())
    loop = LoopOptions(steps=steps, optimiser="SGD", max_grad_norm=0.0, weight_decay=0.0, **options)
    device = open_device(settings)
    return train(context, device, {"w": weight}, Slope(weight, slope), Shown(), loop, start=start, precision=precision)


def test_where_a_step_makes_weights_infinite_the_state_before_it_is_kept(tmp_path):
    good = made(tmp_path, 2, 1.0, learning_rate=0.5).state
    assert good["step"] == 2 and float(good["weights"]["w"]) == pytest.approx(-0.5 - 0.5 * 1.9)
    with pytest.raises(gf.GraphFlowError) as caught:
        made(tmp_path, 5, 1e38, start=good, learning_rate=9.0)
    (problem,) = caught.value.problems
    (path,) = (tmp_path / "training_states").iterdir()
    assert problem.message.startswith("the loss is not a number at step 4, with a learning rate of 9.00e+00")
    assert path.name in problem.message and "LoadTrainingState" in problem.hint
    found = read_state(path)
    assert found.pop("weights") == good["weights"] and found["step"] == 2 and found["training"] == good["training"]


def test_a_training_that_breaks_at_its_first_step_keeps_nothing(tmp_path):
    with pytest.raises(gf.GraphFlowError, match="the loss is not a number at step 1"):
        made(tmp_path, 1, float("nan"))
    assert not (tmp_path / "training_states").exists()


def test_in_fp16_a_step_whose_gradients_are_too_large_is_left_out(tmp_path):
    first = made(tmp_path, 3, 1e35, precision=torch.float16, learning_rate=1e-35)
    assert first.state["scaler"]["scale"] < 2.0**16, "65536 times the slope has no float32"
    assert 0 < len(set(map(float, first.losses.training))) <= 3 and first.state["step"] == 3
    whole = made(tmp_path, 8, 1e35, precision=torch.float16, learning_rate=1e-35)
    rest = made(tmp_path, 5, 1e35, start=first.state, precision=torch.float16, learning_rate=1e-35)
    assert torch.equal(rest.weights["w"], whole.weights["w"]) and rest.state["scaler"] == whole.state["scaler"]
    assert float(whole.weights["w"]) < 0
