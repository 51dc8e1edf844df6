"""The built-in model: how it is measured, how it is trained, what ships."""

import random
from pathlib import Path

import numpy as np
import torch

from benchmarks.tiny_model import BUILTIN, Asked, pictures, prompts, seen
from training.data import HELD_OUT, THINGS, Sample, captions, draw, load_sprites, pairs
from training.modules import new_vae
from training.train_tiny import cached_latents, fit_preview, main

ROOT = Path(__file__).parents[2]


def test_held_out_are_two_backgrounds_of_each_thing():
    assert len(HELD_OUT) == 40
    assert all(sum(sample.thing == thing for sample in HELD_OUT) == 2 for thing in THINGS)


def test_the_benchmark_asks_for_held_out_pairs_alone_each_with_a_seed_of_its_own():
    asked = prompts()
    assert len(asked) >= 200
    assert {item.sample for item in asked} == HELD_OUT
    assert len({item.seed for item in asked}) == len(asked)
    assert all(item.text in captions(item.sample) for item in asked)


def test_the_judge_recognises_true_pictures():
    rng, sprites = random.Random(11), load_sprites()
    samples = pairs()[::3]
    true = np.stack([draw(sprites, sample, rng) for sample in samples])
    right = [found == sample for found, sample in zip(seen(true), samples, strict=True)]
    assert np.mean(right) > 0.98


def test_the_unet_never_sees_a_held_out_pair():
    vae = new_vae()
    _, samples = cached_latents(vae, 1)
    assert not HELD_OUT & set(samples) and len(samples) == 120


def test_every_part_trains_and_the_result_is_a_model_that_draws(tmp_path):
    """A few steps of each part from new weights; what it draws is noise, but it is a model folder like any other."""
    runs, target = tmp_path / "runs", tmp_path / "model"
    main(["all", "--minutes", "0.01", "--pictures", "1", "--runs", str(runs), "--target", str(target)])
    asked = [Asked(Sample("cat", "blue"), "a cat", 1)]
    assert pictures(target, asked, steps=2).shape == (1, 64, 64, 3)
    assert (target / "vae" / "preview.json").is_file()


def test_training_goes_on_from_the_model_that_ships(tmp_path, capsys):
    main(["unet", "--minutes", "0.005", "--pictures", "1", "--shipped", "--runs", str(tmp_path)])
    assert "diffusion_pytorch_model.safetensors" in capsys.readouterr().out
    assert (tmp_path / "unet.pt").is_file() and (tmp_path / "tokenizer" / "vocab.json").is_file()


def test_a_preview_map_gives_the_mean_colours():
    fitted = fit_preview(new_vae())
    assert np.shape(fitted["weight"]) == (4, 3) and np.shape(fitted["bias"]) == (3,)


def test_the_model_that_ships_is_small_and_says_what_it_is():
    assert sum(path.stat().st_size for path in BUILTIN.rglob("*.safetensors")) <= 12_000_000
    card = (BUILTIN / "README.md").read_text(encoding="utf-8")
    assert all(thing in card for thing in THINGS) and "Apache-2.0" in card
    assert "Noto Emoji" in (ROOT / "NOTICE").read_text(encoding="utf-8")


def test_the_demo_shows_what_its_prompt_says():
    sample = Sample("red apple", "blue")
    torch.set_num_threads(1)
    drawn = pictures(BUILTIN, [Asked(sample, captions(sample)[0], seed) for seed in range(4)])
    assert sum(found == sample for found in seen(drawn)) >= 3
