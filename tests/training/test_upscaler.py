"""The upscaler of the package, and the program that made it."""

import torch
from graphflow_nodes.files.folders import ADAPTERS
from safetensors.torch import load_file

from training import train_upscaler
from training.train_upscaler import Compact, decibels, made_pairs

FILE = ADAPTERS / "upscale_models" / train_upscaler.TARGET.name


def network():
    found = Compact()
    found.load_state_dict({name: tensor.float() for name, tensor in load_file(FILE).items()})
    return found


def test_things_that_it_never_saw_come_out_better_than_by_interpolation():
    own, cubic = decibels(network(), made_pairs(12, 4, None, of_held_out=True))
    assert own > cubic + 1.5


def test_what_is_plain_stays_plain():
    colours = torch.rand(4, 3, 1, 1, generator=torch.manual_seed(0)).expand(4, 3, 24, 24)
    found = network()(colours)[..., 8:-8, 8:-8]
    assert (found - colours[..., :1, :1]).abs().max() < 0.03


def test_the_file_has_the_tensors_that_the_program_writes_and_is_small():
    made = train_upscaler.file_of(Compact())
    assert {name: tensor.shape for name, tensor in load_file(FILE).items()} == {n: one.shape for n, one in made.items()}
    assert FILE.stat().st_size <= 150_000


def test_training_writes_a_network_that_learns(tmp_path):
    torch.set_num_threads(1)
    target = tmp_path / "upscale_models" / "x.safetensors"
    train_upscaler.train(minutes=0.02, target=target, count=8, batch=2)
    state = load_file(target)
    torch.manual_seed(0)
    begun = train_upscaler.file_of(Compact())
    assert state.keys() == begun.keys() and any(not torch.equal(state[name], begun[name]) for name in state)
