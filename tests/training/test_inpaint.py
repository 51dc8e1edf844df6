"""The model for inpainting of the package, and the program that made it."""

import random

import torch
from graphflow_nodes.families.opened import open_model
from graphflow_nodes.files.folders import ADAPTERS
from safetensors.torch import load_file

import graphflow as gf
from benchmarks.tiny_adapters import answers, by_mask
from benchmarks.tiny_model import seen
from training import train_inpaint
from training.data import HELD_OUT
from training.train_inpaint import UNIT, a_mask, new_inpainter

FILE = ADAPTERS / "diffusion_models" / train_inpaint.TARGET.name / "diffusion_pytorch_model.safetensors"


def test_what_a_prompt_names_is_drawn_on_what_the_image_shows():
    """Held-out pairs; no prompt names the background."""
    cases = [*by_mask(own=True)][0:20:19]
    assert seen(answers(cases, random.Random(2))) == [case.wanted for case in cases]


def test_the_file_has_the_tensors_that_the_program_writes_and_is_small():
    made = new_inpainter().state_dict()
    assert {name: one.shape for name, one in load_file(FILE).items()} == {n: one.shape for n, one in made.items()}
    assert sum(path.stat().st_size for path in FILE.parent.iterdir()) <= 500_000


def test_every_mask_covers_a_box_that_a_cell_of_the_latent_sees():
    rng = random.Random(0)
    for mask in (a_mask(rng) for _ in range(200)):
        rows, columns = mask[0].any(1).sum(), mask[0].any(0).sum()
        assert mask.sum() == rows * columns and min(rows, columns) >= 16


def test_the_unit_of_training_is_that_of_a_denoiser_in_a_folder_of_its_own():
    model = open_model(FILE.parent, gf.Settings()).model
    assert model.config.latent["scale"] == UNIT and model.config.denoiser.in_channels == 9


def test_training_shows_no_held_out_pair_writes_a_model_and_goes_on_from_it(tmp_path):
    torch.set_num_threads(1)
    for go_on in (False, True):
        train_inpaint.train(minutes=0.01, target=tmp_path / "x", go_on=go_on, each=1, masks=1, batch=2)
        found = load_file(tmp_path / "x" / FILE.name)
        assert found.keys() == load_file(FILE).keys() and all(one.isfinite().all() for one in found.values())
    assert not HELD_OUT & set(train_inpaint.made_holes(train_inpaint.new_vae(), each=1, masks=1).samples)
