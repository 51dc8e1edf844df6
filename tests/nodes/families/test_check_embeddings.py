"""Before a run: an embedding of another width than the text encoder is named, from its header alone."""

import pytest
import torch
from safetensors.torch import save_file

import graphflow as gf

from ...graphs import graph
from . import tiny

FILES = {
    "wide": {"emb_params": torch.zeros(2, 999)},
    "own": {"emb_params": torch.zeros(2, 96)},
    "pair": {"clip_l": torch.zeros(1, 96), "clip_g": torch.zeros(1, 1280)},
}


@pytest.mark.parametrize(
    ("text", "wrong"),
    [("a embedding:wide, fox", True), ("(embedding:own:1.2) fox", False), ("embedding:pair", False)],
)
def test_an_embedding_of_another_width_is_a_problem_at_its_prompt_before_the_run(text, wrong, tmp_path):
    (tmp_path / "embeddings").mkdir()
    for name, tensors in FILES.items():
        save_file(tensors, tmp_path / "embeddings" / f"{name}.safetensors")
    workflow = graph(
        load=("CheckpointLoaderSimple", {"ckpt_name": "graphflow-tiny"}),
        yes=("CLIPTextEncode", {"text": text, "clip": "@load:1"}),
        no=("CLIPTextEncode", {"text": "", "clip": "@load:1"}),
        empty=("EmptyLatentImage", {"width": 64, "height": 64}),
        draw=(
            "KSampler",
            {"model": "@load", "positive": "@yes", "negative": "@no", "latent_image": "@empty", "seed": 1, "steps": 1},
        ),
        picture=("VAEDecode", {"samples": "@draw", "vae": "@load:2"}),
        save=("SaveImage", {"images": "@picture"}),
    )
    with gf.Engine(settings=gf.Settings(models=(tmp_path,), device="cpu")) as engine:
        problems = engine.validate(workflow)
    if wrong:
        (problem,) = problems
        assert (problem.node, problem.input, problem.code) == ("yes", "text", "wrong_embedding")
        assert "wide.safetensors is 999 wide, the text encoder 96" in problem.message
    else:
        assert problems == []


def test_the_two_vectors_of_a_file_for_sdxl_reach_both_of_its_text_encoders(tmp_path):
    small = tiny.tiny("sdxl")
    small.save(tmp_path / "checkpoints" / "xl.safetensors")
    wide, wider = (small.modules[f"text.{name}"].get_input_embeddings().weight.shape[1] for name in ("l", "g"))
    (tmp_path / "embeddings").mkdir()
    generator = torch.manual_seed(0)
    vectors = {
        "clip_l": torch.randn(2, wide, generator=generator),
        "clip_g": torch.randn(2, wider, generator=generator),
    }
    save_file(vectors, tmp_path / "embeddings" / "both.safetensors")
    save_file({**vectors, "clip_g": 2 * vectors["clip_g"]}, tmp_path / "embeddings" / "other.safetensors")

    def encoded(engine, text):
        load = ("CheckpointLoaderSimple", {"ckpt_name": "xl.safetensors"})
        workflow = graph(load=load, yes=("CLIPTextEncode", {"text": text, "clip": "@load:1"}))
        return engine.run(workflow, targets=["yes"]).nodes["yes"].outputs["CONDITIONING"][0][0].split((wide, wider), -1)

    with gf.Engine(settings=gf.Settings(models=(tmp_path,), device="cpu"), cache=gf.Cache()) as engine:
        plain, both, other = (encoded(engine, f"a {text}") for text in ("", "embedding:both", "embedding:other"))
    assert all(not torch.allclose(one, two, atol=0.1) for one, two in zip(plain, both, strict=True))
    assert torch.equal(both[0], other[0]) and not torch.allclose(both[1], other[1], atol=1e-3)
