"""Each kind of term: what learns, and that the file gives the weight that was trained."""

import math

import pytest
import torch
from graphflow_nodes.patches.lora_kinds import changed_weight
from graphflow_nodes.training.low_rank import add_terms, file_metadata, file_tensors, parameters_of_terms, terms_on_wire
from graphflow_nodes.training.terms import KINDS
from torch import nn
from torch.nn import functional as F

from graphflow import GraphFlowError

ROLES = {"lora_down.weight": "down", "lora_up.weight": "up"}


def network():
    torch.manual_seed(3)
    inner = nn.ModuleDict({"to_q": nn.Linear(12, 20), "conv": nn.Conv2d(6, 8, 3, padding=1, stride=2)})
    return nn.ModuleDict({"attentions": inner})


def trained(algorithm, rank):
    """Terms after a few steps that ask for something."""
    module = network().requires_grad_(False)
    terms = add_terms(module, "all", rank, alpha=rank / 2, seed=1, algorithm=algorithm)
    assert set(terms) == {"attentions.to_q", "attentions.conv"}
    parameters = parameters_of_terms(terms)
    optimiser = torch.optim.Adam(parameters.values(), lr=0.05)
    x, image = torch.randn(7, 12), torch.randn(2, 6, 8, 8)
    for _ in range(5):
        optimiser.zero_grad()
        answers = (terms["attentions.to_q"](x), terms["attentions.conv"](image))
        sum((answer - 1).square().mean() for answer in answers).backward()
        optimiser.step()
    return module, terms, {name: one.detach().clone() for name, one in parameters.items()}


@pytest.mark.parametrize("algorithm", list(KINDS))
def test_terms_change_nothing_before_they_have_learnt(algorithm):
    plain, module = network(), network()
    terms = add_terms(module, "all", 4, alpha=4.0, seed=1, algorithm=algorithm)
    x, image = torch.randn(7, 12), torch.randn(2, 6, 8, 8)
    torch.testing.assert_close(terms["attentions.to_q"](x), plain["attentions"]["to_q"](x))
    torch.testing.assert_close(terms["attentions.conv"](image), plain["attentions"]["conv"](image))


@pytest.mark.parametrize(("algorithm", "rank"), [("LoRA", 3), ("DoRA", 3), ("LoKr", 1), ("LoKr", 8)])
def test_a_file_gives_the_weights_that_were_trained(algorithm, rank):
    _, terms, weights = trained(algorithm, rank)
    lora = terms_on_wire(terms, weights, unet=True)
    tensors = file_tensors(lora, "kohya", torch.float32)
    for name, term in terms.items():
        key = f"lora_unet_{name.replace('.', '_')}."
        numbers = {
            ROLES.get(one.removeprefix(key), one.removeprefix(key)): tensors[one]
            for one in tensors
            if one.startswith(key)
        }
        base = term.base.weight
        weight = changed_weight(numbers, base, 1.0)
        assert float((weight - base).abs().max()) > 0.01
        x = torch.randn(2, 6, 8, 8) if base.dim() == 4 else torch.randn(7, 12)
        found = F.conv2d(x, weight, term.base.bias, 2, 1) if base.dim() == 4 else F.linear(x, weight, term.base.bias)
        torch.testing.assert_close(found, term(x), rtol=1e-4, atol=1e-4)


def test_dora_in_diffusers_names_is_the_same_by_the_norm_of_the_changed_rows():
    _, terms, weights = trained("DoRA", 3)
    tensors = file_tensors(terms_on_wire(terms, weights, unet=True), "diffusers", torch.float32)
    key, term = "unet.attentions.to_q.", terms["attentions.to_q"]
    numbers = {"down": tensors[f"{key}lora_A.weight"], "up": tensors[f"{key}lora_B.weight"]}
    numbers["magnitude"] = tensors[f"{key}lora_magnitude_vector"]
    x = torch.randn(7, 12)
    torch.testing.assert_close(F.linear(x, changed_weight(numbers, term.base.weight, 1.0), term.base.bias), term(x))


def test_a_lokr_holds_few_numbers_and_states_its_kind():
    _, terms, weights = trained("LoKr", 1)
    assert {role for term in terms.values() for role in term.learning()} >= {"lokr_w1", "lokr_w2_a", "lokr_w2_b"}
    assert terms["attentions.to_q"].lokr_w1.shape == (4, 3)
    assert sum(map(torch.Tensor.numel, weights.values())) < 0.2 * sum(
        math.prod(t.base.weight.shape) for t in terms.values()
    )
    lora = terms_on_wire(terms, weights, unet=True)
    assert file_metadata(lora)["ss_network_module"] == "lycoris.kohya"
    with pytest.raises(GraphFlowError, match="no names"):
        file_tensors(lora, "diffusers", torch.float32)
