"""The judge of scenes finds what an image shows, and nothing else; the benchmark asks for what training never shows."""

import random

import numpy as np
import pytest
from PIL import Image, ImageFilter

from benchmarks.scene_judge import seen
from benchmarks.tiny_scenes import Asked, is_right, of_prompts, other_scenes, prompts, table
from training.scenes import BACKGROUNDS, SIZE, Scene, captions, draw, is_held_out, load_things


@pytest.fixture(scope="module")
def sprites():
    return load_things()


def test_more_than_400_prompts_ask_for_scenes_that_are_held_out_half_of_them_with_two_things():
    asked = prompts()
    assert len(asked) >= 400 and len({item.seed for item in asked}) == len(asked)
    assert all(is_held_out(item.scene) and item.text in captions(item.scene) for item in asked)
    assert sum(len(item.scene.things) == 2 for item in asked) == len(asked) // 2
    assert len({item.scene.things for item in asked}) > 300


def test_the_judge_is_right_about_true_drawings_also_about_soft_and_noisy_ones(sprites):
    asked, rng = prompts(24), random.Random(7)
    true = np.stack([draw(sprites, item.scene, rng) for item in asked])
    assert of_prompts(asked, seen(true)) == 1.0
    soft = np.stack([np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(1))) for image in true[::4]])
    noisy = (soft + np.random.default_rng(0).normal(0, 12, soft.shape)).clip(0, 255).astype(np.uint8)
    assert of_prompts(asked[::4], seen(noisy)) == 1.0


def test_the_judge_calls_no_other_scene_right(sprites):
    asked, rng = prompts(12), random.Random(8)
    for scenes in other_scenes(asked, rng).values():
        chosen = [(item, scene) for item, scene in zip(asked, scenes, strict=True) if scene is not None]
        shown = seen(np.stack([draw(sprites, scene, rng) for _, scene in chosen]))
        assert chosen and shown == [scene for _, scene in chosen]
        assert not any(is_right(item, scene) for (item, _), scene in zip(chosen, shown, strict=True))
    plain = np.stack([np.full((SIZE, SIZE, 3), colour, np.uint8) for colour in BACKGROUNDS.values()])
    assert seen(plain) == [Scene((), background) for background in BACKGROUNDS]
    assert not seen(np.random.default_rng(0).integers(0, 256, (1, SIZE, SIZE, 3), np.uint8))[0].things


def test_sides_matter_but_where_a_prompt_leaves_them_open():
    scene, swapped = Scene(("cat", "owl"), "red"), Scene(("owl", "cat"), "red")
    left = Asked(scene, "a cat left of an owl on a red background", 0)
    both = Asked(scene, "a cat and an owl on a red background", 0)
    assert is_right(left, scene) and not is_right(left, swapped)
    assert is_right(both, scene) and is_right(both, swapped)
    assert not is_right(both, Scene(("owl", "cat"), "blue"))
    lines = table([left, left], [scene, swapped])
    assert lines[1].split()[:6] == ["two", "things", "2", "50.0%", "100.0%", "50.0%"]
    assert any("cat | owl on red -> owl | cat on red" in line for line in lines)
