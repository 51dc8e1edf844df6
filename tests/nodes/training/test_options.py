"""Each option of a training does what its source states: by closed forms, counts and moments."""

import math
from threading import Event

import pytest
import torch
from graphflow_nodes.devices.use import open_device
from graphflow_nodes.files.load import load_part
from graphflow_nodes.training.denoiser import checkpointed
from graphflow_nodes.training.examples import joined, read_set
from graphflow_nodes.training.loop import train
from graphflow_nodes.training.objective import Objective
from graphflow_nodes.training.optimisers import make_optimiser
from graphflow_nodes.training.options import RATES, LoopOptions, LossOptions
from graphflow_nodes.training.randomness import uniform

import graphflow as gf

from .test_objective import Answer, model, wire  # noqa: F401

STEPS = 7


def trained(tmp_path, parameters, objective, data, precision=None, **options):
    settings = gf.Settings(device="cpu", output_dir=tmp_path)
    context = gf.Context("t", settings, dict, lambda event: None, Event())
    stated = {"steps": STEPS, "optimiser": "SGD", "weight_decay": 0.0, "max_grad_norm": 0.0, **options}
    return train(
        context, open_device(settings), parameters, objective, data, LoopOptions(**stated), precision=precision
    )


class Pulls:
    """Losses of one weight whose gradients are given, one an example; it notes what it is asked."""

    shown, buckets = 1, (((1,), 1),)

    def __init__(self, gradients):
        self.weight = torch.nn.Parameter(torch.zeros(len(gradients[0])))
        self.gradients, self.asked = [torch.tensor(one) for one in gradients], []

    def sum(self, numbers, step):
        self.asked.append((torch.eye(2) @ torch.eye(2)).dtype)
        return sum((self.weight * self.gradients[step % len(self.gradients)]).sum() for _ in numbers)


def pulled(tmp_path, gradients, **options):
    task = Pulls(gradients)
    return trained(tmp_path, {"w": task.weight}, task, task, **options)


def test_the_average_of_the_weights_is_its_closed_form(tmp_path):
    decay, rate = 0.3, 0.5
    found = pulled(tmp_path, [[1.0]], ema_decay=decay, learning_rate=rate)
    weights, momentum = [0.0], 0.0
    for _ in range(STEPS):  # SGD with momentum 0.9
        momentum = 0.9 * momentum + 1.0
        weights.append(weights[-1] - rate * momentum)
    decays = [min(decay, (1 + n) / (10 + n)) for n in range(STEPS + 1)]
    assert decays[1] < decay and decays[-1] == decay, "both parts of the minimum are reached"
    wanted = sum((1 - decays[n] if n else 1.0) * weights[n] * math.prod(decays[n + 1 :]) for n in range(STEPS + 1))
    assert float(found.weights["w"]) == pytest.approx(wanted, rel=1e-6)
    assert float(found.state["weights"]["w"]) == pytest.approx(weights[-1], rel=1e-6)


def test_gradients_are_clipped_by_the_norm_of_all_of_them(tmp_path):
    stated = {"steps": 1, "learning_rate": 1.0}
    free = pulled(tmp_path, [[3.0, 4.0]], **stated).weights["w"]
    assert torch.allclose(free, torch.tensor([-3.0, -4.0]))
    clipped = pulled(tmp_path, [[3.0, 4.0]], max_grad_norm=2.0, **stated).weights["w"]
    assert torch.allclose(clipped, torch.tensor([-1.2, -1.6]), atol=1e-5)
    small = pulled(tmp_path, [[3.0, 4.0]], max_grad_norm=9.0, **stated).weights["w"]
    assert torch.equal(small, free)


def test_products_have_the_number_format_of_mixed_precision_and_weights_stay_float32(tmp_path):
    for precision, wanted in ((None, torch.float32), (torch.bfloat16, torch.bfloat16)):
        task = Pulls([[1.0]])
        found = trained(tmp_path, {"w": task.weight}, task, task, precision=precision, steps=2)
        assert task.asked == [wanted] * 2 and found.weights["w"].dtype == torch.float32


class Learner(torch.nn.Module):
    """A convolution of the latent; it notes what it is asked."""

    dtype = torch.float32

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.seen, self.texts = torch.nn.Conv2d(4, 4, 3, padding=1), [], []

    def forward(self, x, time, encoder_hidden_states, **more):
        self.seen.append(x.detach().clone())
        self.texts += encoder_hidden_states[:, 0, 0].tolist()
        return (self.layer(x),)


def data_of(model, count, **more):  # noqa: F811
    return read_set(joined([wire(f"n{number}") for number in range(count)]) | more, model)


def test_two_batches_of_four_are_a_batch_of_eight(model, tmp_path):  # noqa: F811
    found = []
    for size, accumulation in ((8, 1), (4, 2), (1, 8)):
        module, data = Learner(), data_of(model, 8)
        objective = Objective(model, module, data, LossOptions(snr_gamma=5.0), 0, "cpu")
        stated = {"batch_size": size, "accumulation": accumulation, "learning_rate": 1e-2, "optimiser": "AdamW"}
        found.append(trained(tmp_path, dict(module.named_parameters()), objective, data, steps=4, **stated))
        assert [len(one) for one in module.seen] == [size] * (4 * accumulation)
    for other in found[1:]:
        for name, weight in found[0].weights.items():
            assert (weight - other.weights[name]).abs().max() < 1e-6 * weight.abs().max(), name
        assert other.losses.training == pytest.approx(found[0].losses.training, rel=1e-6)


def test_captions_are_left_out_as_often_as_stated(model):  # noqa: F811
    data = data_of(model, 10, empty=[[torch.ones(1, 77, 96), {}]])
    for share in (0.0, 0.25, 1.0):
        module = Learner()
        objective = Objective(model, module, data, LossOptions(caption_dropout=share), 0, "cpu")
        with torch.no_grad():
            for step in range(80):
                objective.sum(list(range(10)), step)
        assert len(module.texts) == 800 and set(module.texts) <= {0.0, 1.0}
        assert abs(sum(module.texts) / 800 - share) <= 3.5 * math.sqrt(share * (1 - share) / 800)


@pytest.mark.parametrize("offset", [0.0, 0.7])
def test_pixels_of_a_channel_share_noise_with_the_variance_of_the_offset(model, offset):  # noqa: F811
    """The noise is e + o c with e of each pixel and c of each channel: variance 1 + o^2, covariance o^2."""
    count, module = 400, Learner()
    sets = joined([wire(f"n{number}") for number in range(count)])
    for one in sets["examples"]:
        one["latent"] = torch.zeros(4, 8, 8)
    objective = Objective(model, module, read_set(sets, model), LossOptions(noise_offset=offset), 0, "cpu")
    with torch.no_grad():
        objective.sum(list(range(count)), 0)
    table = model.prediction.table()
    levels = [table[int(uniform(0, "level", "step", 0, 1, f"n{n}") * len(table))] for n in range(count)]
    sigmas = torch.stack(levels).reshape(-1, 1, 1, 1)
    noise = (module.seen[0] * (sigmas**2 + 1).sqrt() / sigmas).double().flatten(2)
    total = noise.var(dim=2, unbiased=False).mean() + noise.mean(2).square().mean()
    apart = noise.mean(2)[:, :2].prod(1).mean()
    between = ((noise.sum(2).square() - noise.square().sum(2)) / (64 * 63)).mean()
    assert float(total) == pytest.approx(1 + offset**2, abs=0.06)
    assert float(between) == pytest.approx(offset**2, abs=0.05)
    assert abs(float(apart)) < 0.1, "channels share nothing"


def test_with_checkpointing_blocks_run_again_for_the_same_gradients(model):  # noqa: F811
    found, runs = [], []
    for wanted in (False, True):
        module = checkpointed(load_part(model, "denoiser", torch.float32).requires_grad_(True), wanted)
        module.train()
        calls = []
        module.down_blocks[0].resnets[0].register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        Objective(model, module, data_of(model, 1), LossOptions(), 0, "cpu").sum([0], 0).backward()
        found.append({name: weight.grad for name, weight in module.named_parameters()})
        runs.append(len(calls))
    assert runs == [1, 2]
    assert all(torch.allclose(found[0][name], one, atol=1e-6) for name, one in found[1].items())


@pytest.mark.parametrize("name", ["AdamW", "Lion"])
def test_a_step_is_the_published_one(name):
    """AdamW: arXiv 1711.05101, algorithm 2; Lion: arXiv 2302.06675, algorithm 2."""
    rate, decay, gradients = 0.1, 0.5, (torch.tensor([2.0, -0.5]), torch.tensor([-1.0, -3.0]))
    weight = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    optimiser, wanted = make_optimiser(name, [[weight]], decay), torch.tensor([1.0, 2.0])
    first, second = torch.zeros(2), torch.zeros(2)
    for step, gradient in enumerate(gradients, 1):
        optimiser.param_groups[0]["lr"] = rate
        weight.grad = gradient.clone()
        optimiser.step()
        if name == "AdamW":
            first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
            change = (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
        else:
            change, first = (0.9 * first + 0.1 * gradient).sign(), 0.99 * first + 0.01 * gradient
        wanted = wanted - rate * (change + decay * wanted)
        assert torch.allclose(weight, wanted, atol=1e-5), step


COURSES = {
    "constant": lambda share: 1.0,
    "linear": lambda share: 1.0 - share,
    "cosine": lambda share: math.cos(math.pi * share / 2) ** 2,
    "warmup_stable_decay": lambda share: 1.0 if share <= 0.7 else (1.0 - share) / 0.3,
}


@pytest.mark.parametrize("name", RATES)
def test_the_rate_of_each_step_is_that_of_its_schedule(name, tmp_path):
    steps, warmup, rate = 12, 2, 0.1
    found = pulled(tmp_path, [[1.0]], steps=steps, learning_rate=rate, schedule=name, warmup=warmup)
    weight, momentum = 0.0, 0.0
    for step in range(steps):
        momentum = 0.9 * momentum + 1.0
        course = (step + 1) / 3 if step < warmup else COURSES[name]((step - warmup) / (steps - warmup))
        weight -= rate * course * momentum
    assert float(found.weights["w"]) == pytest.approx(weight, rel=1e-5)
