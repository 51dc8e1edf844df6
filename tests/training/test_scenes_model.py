"""The model of scenes that ships: what it says of itself, and that it draws what it is asked."""

from pathlib import Path

import numpy as np
import torch

import graphflow as gf
from benchmarks.scene_judge import seen
from benchmarks.tiny_model import pictures
from benchmarks.tiny_scenes import Asked, is_right, prompts
from training.scenes import BACKGROUNDS, THINGS, Scene, is_held_out

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "nodes" / "builtin" / "graphflow-scenes"


def right(asked):
    torch.set_num_threads(1)
    shown = seen(pictures(MODEL, asked))
    return sum(is_right(item, scene) for item, scene in zip(asked, shown, strict=True))


def test_it_is_small_and_says_what_it_is():
    assert sum(path.stat().st_size for path in MODEL.rglob("*") if path.is_file()) <= 20_000_000
    card = (MODEL / "README.md").read_text(encoding="utf-8")
    assert all(name in card for name in (*THINGS, *BACKGROUNDS)) and "Apache-2.0" in card
    assert "Noto Emoji" in (ROOT / "NOTICE").read_text(encoding="utf-8")


def test_the_demo_shows_what_its_prompt_says():
    workflow = gf.Workflow.load(ROOT / "workflows" / "two_things.json")
    text = workflow[workflow.find("Positive Prompt")].inputs["text"]
    assert text == "a cat left of a red apple on a green background"
    scene = Scene(("cat", "red apple"), "green")
    assert right([Asked(scene, text, seed) for seed in range(4)]) >= 3


def test_it_puts_together_what_training_never_showed():
    asked = prompts(24)
    assert all(is_held_out(item.scene) for item in asked)
    assert right([item for item in asked if len(item.scene.things) == 1]) >= 10
    assert right([item for item in asked if len(item.scene.things) == 2]) >= 7


def test_seeds_differ():
    asked = [Asked(Scene(("owl",), "blue"), "an owl on a blue background", seed) for seed in (1, 2)]
    first, second = pictures(MODEL, asked).astype(int)
    assert np.abs(first - second).mean() > 1
