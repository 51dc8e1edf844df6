"""The data of the model of 128 pixels: what it shows, and what is held out."""

from __future__ import annotations

import random

import numpy as np
import pytest

from training.scene_model import new_text_encoder, new_unet, new_vae, the_tokenizer
from training.scenes import (
    BACKGROUNDS,
    SIZE,
    THINGS,
    Scene,
    captions,
    draw,
    is_held_out,
    load_things,
    pairs_of_things,
    singles,
)


@pytest.fixture(scope="module")
def things():
    return load_things()


def test_every_thing_has_a_picture_of_its_own(things):
    assert len(THINGS) >= 100 and len(BACKGROUNDS) >= 10
    pictures = {name: np.asarray(image) for name, image in things.items()}
    assert all((picture[..., 3] > 200).mean() > 0.1 for picture in pictures.values())
    assert len({picture.tobytes() for picture in pictures.values()}) == len(THINGS)


def test_the_left_thing_is_drawn_left_and_the_right_one_right(things):
    drawn = draw(things, Scene(("red heart", "blue heart"), "white"), random.Random(1)).astype(int)
    assert drawn.shape == (SIZE, SIZE, 3)
    reddish, bluish = (drawn[..., a] - drawn[..., b] > 80 for a, b in ((0, 2), (2, 0)))
    assert np.nonzero(reddish)[1].max() < SIZE / 2 < np.nonzero(bluish)[1].min()


def test_captions_name_both_things_in_their_order():
    texts = captions(Scene(("cat", "red apple"), "green"))
    assert texts[0] == "a cat left of a red apple on a green background"
    assert texts[1] == "a red apple right of a cat on a green background"
    assert captions(Scene(("owl",), "orange"))[0] == "an owl on an orange background"
    assert all("cat" in text and "red apple" in text and "green" in text for text in texts)


def test_a_thing_is_never_shown_on_a_background_that_is_held_out_for_it():
    held = [scene for scene in singles() if is_held_out(scene)]
    assert len(held) == len(singles()) // 5
    assert {scene.things[0] for scene in held} == set(THINGS)
    for scene in held[::50]:
        assert is_held_out(Scene((scene.things[0], "cat"), scene.background))
    kept = [pair for pair in pairs_of_things() if not all(is_held_out(Scene(pair, ground)) for ground in BACKGROUNDS)]
    assert 0.88 < len(kept) / len(pairs_of_things()) < 0.92


def test_the_modules_fit_in_twenty_megabytes_of_float16(tmp_path):
    tokenizer = the_tokenizer(tmp_path)
    modules = (new_vae(), new_unet(), new_text_encoder(tokenizer))
    assert 2 * sum(weight.numel() for module in modules for weight in module.parameters()) < 20e6
    assert tokenizer.tokenize("a soccer ball right of french fries")[1] == "soccer</w>"
