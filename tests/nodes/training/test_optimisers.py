"""Optimisers by name: each lowers a loss, and goes on after a stop with the same bits."""

import pytest
import torch
from graphflow_nodes.training import packages
from graphflow_nodes.training.optimisers import make_optimiser, rate_at, restore_state, state_of
from graphflow_nodes.training.options import OPTIMISER_PACKAGES, OPTIMISERS
from graphflow_nodes.training.packages import check_optimizer

import graphflow as gf

RATES = {"Prodigy": 1.0, "SGD": 1e-2}


def weights():
    torch.manual_seed(0)
    return [torch.nn.Parameter(torch.randn(4, 3)), torch.nn.Parameter(torch.zeros(5))]


def steps(optimiser, parameters, numbers, rate):
    for number in numbers:
        generator = torch.Generator().manual_seed(number)
        x = torch.randn(8, 4, generator=generator)
        loss = (x @ parameters[0] - 1).square().mean() + (parameters[1] - x.mean() - 2).square().mean()
        optimiser.zero_grad()
        loss.backward()
        for group in optimiser.param_groups:
            group["lr"] = rate
        optimiser.step()
    return loss.item()


@pytest.mark.parametrize("name", [name for name in OPTIMISERS if name != "AdamW8bit"])
def test_an_optimiser_learns_and_goes_on_with_the_same_bits(name, capsys):
    if name in OPTIMISER_PACKAGES:
        pytest.importorskip(OPTIMISER_PACKAGES[name], reason="its package is not installed: pip install '.[training]'")
    rate = RATES.get(name, 1e-2)
    whole = weights()
    first = steps(make_optimiser(name, [whole], 0.01), whole, [0], rate)
    whole = weights()
    last = steps(make_optimiser(name, [whole], 0.01), whole, range(60), rate)
    assert last < 0.9 * first

    parts = weights()
    optimiser = make_optimiser(name, [parts], 0.01)
    steps(optimiser, parts, range(25), rate)
    kept = {number: dict(one) for number, one in state_of(optimiser).items()}
    kept = {
        number: {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in one.items()}
        for number, one in kept.items()
    }
    again = [torch.nn.Parameter(one.detach().clone()) for one in parts]
    optimiser = make_optimiser(name, [again], 0.01)
    restore_state(optimiser, kept)
    steps(optimiser, again, range(25, 60), rate)
    assert all(torch.equal(a, b) for a, b in zip(again, whole, strict=True))
    assert capsys.readouterr().out == ""


def test_an_optimiser_whose_package_is_missing_is_refused_before_the_run(monkeypatch):
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    for name, package in OPTIMISER_PACKAGES.items():
        ((where, text),) = check_optimizer(gf.Settings(), {"optimizer": name}, {})
        assert where == "optimizer" and f"pip install {package}" in text
        with pytest.raises(gf.GraphFlowError, match="not installed"):
            make_optimiser(name, [weights()], 0.0)
    assert not list(check_optimizer(gf.Settings(), {"optimizer": "AdamW"}, {}))


def test_adamw_of_eight_bits_is_refused_on_a_cpu(monkeypatch):
    monkeypatch.setattr("graphflow_nodes.training.optimisers.import_module", lambda name: None)
    monkeypatch.setattr(packages, "find_spec", lambda name: name)
    with pytest.raises(gf.GraphFlowError, match="needs a GPU"):
        make_optimiser("AdamW8bit", [weights()], 0.0)


def test_the_rate_rises_stays_and_falls_at_the_end():
    rates = [rate_at("warmup_stable_decay", step, 110, 10) for step in range(110)]
    assert rates[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert rates[10:80] == [1.0] * 70
    assert rates[80:] == pytest.approx([(110 - step) / 30 for step in range(80, 110)])


def test_beta2_is_of_adam_and_adamw():
    for name in ("Adam", "AdamW"):
        assert make_optimiser(name, [weights()], 0.01, 0.9).param_groups[0]["betas"] == (0.9, 0.9)
        assert make_optimiser(name, [weights()], 0.01).param_groups[0]["betas"] == (0.9, 0.999)
