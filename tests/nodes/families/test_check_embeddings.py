"""Before a run: an embedding of another width than the text encoder is named, from its header alone."""

import pytest
import torch
from safetensors.torch import save_file

import graphflow as gf

from ...graphs import graph

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
