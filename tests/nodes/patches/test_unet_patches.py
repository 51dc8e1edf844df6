"""Patches of the U-Net and of guidance against their formulas, and as nodes on the built-in model."""

import pytest
import torch
from graphflow_nodes.families.kits import unet_network
from graphflow_nodes.patches.differential import DifferentialDiffusion
from graphflow_nodes.patches.freeu import FreeU
from graphflow_nodes.patches.guidance import APG, CFGZeroStar

import graphflow as gf
from tests.nodes.families import tiny
from tests.nodes.made_up import model

from .test_guidance import plain, step, with_patch


def test_cfg_zero_star_scales_the_negative_before_guidance():
    given = step()
    x, p, n = given.x, given.x0["positive"], given.x0["negative"]
    a = ((x - p) * (x - n)).sum((1, 2, 3), keepdim=True) / ((x - n) ** 2).sum((1, 2, 3), keepdim=True)
    assert torch.allclose(with_patch(CFGZeroStar(), given), a * n + given.cfg * (p - a * n), atol=1e-3)


def test_projected_guidance_that_keeps_all_is_guidance_one_stronger():
    given = step()
    difference = given.x0["positive"] - given.x0["negative"]
    found = with_patch(APG(eta=1.0, threshold=0.0), given)
    assert torch.allclose(found, plain(given) + difference, atol=1e-3)
    assert not torch.allclose(with_patch(APG(eta=0.0, threshold=0.0), given), found, atol=1e-2)
    assert not torch.allclose(with_patch(APG(eta=1.0, threshold=0.1), given), found, atol=1e-2)


def test_a_darker_place_is_drawn_anew_later():
    mask, made = torch.linspace(0, 1, 5), model()
    highest, lowest = made.prediction.sigma_max, made.prediction.sigma_min
    levels = [float(level) for level in torch.linspace(highest, lowest, 6)]
    patch = DifferentialDiffusion(1.0)
    shares = [float(patch.mask(mask, made, level, highest, 0.0).mean()) for level in levels]
    assert shares == sorted(shares) and shares[0] == pytest.approx(0.2) and shares[-1] == pytest.approx(1.0)
    half = DifferentialDiffusion(0.5).mask(mask, made, highest, highest, 0.0)
    assert torch.allclose(half, 0.5 * mask + 0.5 * (mask >= 1.0))


def base(kind, /, **inputs):
    return {
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "graphflow-tiny"}},
        "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["4", 1], "text": "a red apple"}},
        "9": {"class_type": kind, "inputs": {"model": ["4", 0], **inputs}},
        "3": {
            "class_type": "KSampler",
            "inputs": {
                "model": ["9", 0],
                "positive": ["6", 0],
                "negative": ["6", 0],
                "latent_image": ["5", 0],
                "steps": 2,
                "cfg": 1.0,
                "seed": 1,
            },
        },
    }


def run(tmp_path, kind, **inputs):
    with gf.Engine(settings=gf.Settings(output_dir=tmp_path, temp_dir=tmp_path)) as engine:
        outputs = engine.run(gf.Workflow.from_json(base(kind, **inputs)), targets=["3"])["3"].outputs
    return next(iter(outputs.values()))["samples"]


def test_a_patch_that_changes_nothing_leaves_the_bits_and_others_do_not(tmp_path):
    plain = run(tmp_path, "RescaleCFG", multiplier=0.0)
    never = {"start_percent": 0.999, "end_percent": 0.9995}
    assert torch.equal(run(tmp_path, "PatchModelAddDownscale", block_number=1, **never), plain)
    for after in (True, False):
        smaller = run(tmp_path, "PatchModelAddDownscale", block_number=2, downscale_after_skip=after, end_percent=0.9)
        assert smaller.isfinite().all() and not torch.equal(smaller, plain)


@pytest.mark.parametrize("version", [1, 2])
def test_free_u_changes_a_unet_for_the_time_of_a_pass(version):
    unet = tiny.tiny("sd1").modules["denoiser"]
    asked = {"x": torch.randn(1, 4, 8, 8), "time": torch.tensor([500.0]), "context": torch.randn(1, 7, 64)}
    plain = unet_network.forward(unet, asked)["out"]
    with FreeU((1.3, 1.4), (0.9, 0.2), version).around(unet):
        changed = unet_network.forward(unet, asked)["out"]
    with FreeU((1.0, 1.0), (1.0, 1.0), version).around(unet):
        same = unet_network.forward(unet, asked)["out"]
    assert not torch.allclose(changed, plain, atol=1e-3) and torch.allclose(same, plain, atol=1e-3)
    assert torch.equal(unet_network.forward(unet, asked)["out"], plain)


def test_a_block_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(gf.GraphFlowError, match="there is no block 32"):
        run(tmp_path, "PatchModelAddDownscale", block_number=32)
