"""A wrong encoder, a wrong VAE and a family that does not run: Problems before the run, from headers alone."""

import pytest
from graphflow_nodes.families import FAMILIES

import graphflow as gf

from . import tiny_modern as t
from .test_modern_runs import WORKFLOWS

OTHERS = {
    "krea2": "qwen_2.5_vl_7b_fp8_scaled.safetensors",
    "anima": "ovis_2.5.safetensors",
    "ernie_image": "qwen3vl_4b_bf16.safetensors",
    "ovis": "ministral-3-3b.safetensors",
    "longcat": "qwen_3_06b_base.safetensors",
}
"""Family -> a text encoder that does not belong to it."""


def problems_of(models, made):
    with gf.Engine(settings=gf.Settings(models=(models,), device="cpu")) as engine:
        return engine.validate(made)


@pytest.mark.parametrize("family", OTHERS)
def test_an_encoder_of_another_family_is_named_with_both_widths(family, tmp_path):
    made = gf.Workflow.load(WORKFLOWS / f"{family}.json")
    for name in [*t.FILES]:
        if f'"{name}"' in (WORKFLOWS / f"{family}.json").read_text():
            t.save(tmp_path, name)
    assert problems_of(tmp_path, made) == []
    t.save(tmp_path, OTHERS[family])
    found = problems_of(tmp_path, made.set("2.clip_name", OTHERS[family]).set("2.type", "qwen_image"))
    assert "wrong_encoder" in {problem.code for problem in found}, found
    (text,) = {problem.message for problem in found if problem.code == "wrong_encoder" and problem.input == "positive"}
    title = next(one.title for one in FAMILIES if one.name == family)
    assert OTHERS[family] in text and title in text and text.count(" wide") == 2


def test_a_vae_of_other_channels_is_named_before_the_run(tmp_path):
    for name in ("krea2_turbo_fp8_scaled.safetensors", "qwen3vl_4b_bf16.safetensors", "flux2-vae.safetensors"):
        t.save(tmp_path, name)
    made = gf.Workflow.load(WORKFLOWS / "krea2.json").set("3.vae_name", "flux2-vae.safetensors")
    (problem,) = problems_of(tmp_path, made)
    assert problem.node == "9" and "128" in problem.message and "16" in problem.message
