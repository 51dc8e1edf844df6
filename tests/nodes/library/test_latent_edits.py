"""Latents laid on each other, mixed, cut and turned; what a noise mask keeps."""

import pytest
import torch
from graphflow_nodes.library import latent_edits as edits
from graphflow_nodes.library.latents import empty_latent_image, latent_upscale, latent_upscale_by
from graphflow_nodes.resampling import resize

import graphflow as gf


def latent(value=0.0, height=8, width=8, batch=1, **more):
    return {"samples": torch.full((batch, 4, height, width), value), **more}


def drawn(seed=0, height=8, width=8):
    return {"samples": torch.randn(1, 4, height, width, generator=torch.Generator().manual_seed(seed)), "kept": 1}


def test_a_latent_is_laid_on_another_with_edges_that_fade_except_on_its_edge():
    found = edits.latent_composite(latent(0.0), latent(1.0, 8, 4), x=32, feather=16)
    assert found["samples"][0, 0, 3].tolist() == [0.0] * 4 + [0.5, 1.0, 1.0, 1.0]
    assert torch.equal(edits.latent_composite(latent(0.5), latent(1.0), x=800)["samples"], latent(0.5)["samples"])


def test_a_latent_is_laid_on_another_through_a_mask():
    found = edits.latent_composite_masked(latent(0.0), latent(1.0, 2, 2), 16, 8, False, torch.full((1, 16, 16), 0.5))
    expected = torch.zeros(1, 4, 8, 8)
    expected[..., 1:3, 2:4] = 0.5
    assert torch.allclose(found["samples"], expected)


def test_mixing_follows_the_formula_and_keeps_other_keys():
    a, b = drawn(1), drawn(2)
    x, y = a["samples"], b["samples"]
    assert torch.allclose(edits.latent_blend(a, b, 0.25)["samples"], 0.25 * x + 0.75 * y)
    assert torch.allclose(edits.latent_add(a, b)["samples"], x + y)
    assert torch.allclose(edits.latent_subtract(a, b)["samples"], x - y)
    assert torch.allclose(edits.latent_multiply(a, -2.0)["samples"], -2 * x)
    assert edits.latent_add(a, b)["kept"] == 1


def test_interpolation_keeps_the_length_of_equal_long_vectors():
    a = drawn(1)
    half = edits.latent_interpolate(a, a, 0.3)["samples"]
    assert torch.allclose(half, a["samples"], atol=1e-6)
    b = {"samples": -3 * a["samples"]}
    assert torch.allclose(edits.latent_interpolate(a, b, 1.0)["samples"], a["samples"], atol=1e-6)
    assert not edits.latent_interpolate(latent(0.0), latent(0.0), 0.5)["samples"].isnan().any()


def test_latents_are_cut_apart_and_put_together_again():
    a = drawn()
    for dim in ("x", "y"):
        left, right = edits.latent_cut(a, dim, 0, 3), edits.latent_cut(a, dim, -5, 99)
        assert torch.equal(edits.latent_concat(left, right, dim)["samples"], a["samples"])
        assert torch.equal(edits.latent_concat(right, left, "-" + dim)["samples"], a["samples"])


def test_a_crop_is_in_pixels_and_starts_at_least_64_before_the_edge():
    a = drawn(0, 16, 16)
    assert torch.equal(edits.latent_crop(a, 64, 64, 8, 16)["samples"], a["samples"][..., 2:10, 1:9])
    assert torch.equal(edits.latent_crop(a, 64, 64, 999, 999)["samples"], a["samples"][..., 8:, 8:])


def test_flips_undo_themselves_and_a_quarter_turn_is_clockwise():
    a = drawn()
    for flip in ("x-axis: vertically", "y-axis: horizontally"):
        assert torch.equal(edits.latent_flip(edits.latent_flip(a, flip), flip)["samples"], a["samples"])
    turned = edits.latent_rotate(a, "90 degrees")["samples"]
    assert torch.equal(turned[..., 0, -1], a["samples"][..., 0, 0])


def test_empty_latents_have_the_channels_of_their_model():
    assert edits.empty_sd3_latent_image(64, 32, 2)["samples"].shape == (2, 16, 4, 8)
    assert empty_latent_image(64, 32, 2)["samples"].shape == (2, 4, 4, 8)


def test_seeds_of_a_batch_are_fixed_or_free():
    assert edits.latent_batch_seed_behavior(latent(batch=3, batch_index=[5, 6, 7]), "fixed")["batch_index"] == [5, 5, 5]
    assert "batch_index" not in edits.latent_batch_seed_behavior(latent(batch=3, batch_index=[5, 6, 7]), "random")


@pytest.mark.parametrize("method", ["nearest-exact", "bilinear", "area", "bicubic", "bislerp"])
def test_a_plain_latent_stays_plain_in_every_way_of_resampling(method):
    found = latent_upscale_by(latent(0.3, 4, 6), method, 1.5)["samples"]
    assert found.shape == (1, 4, 6, 9) and torch.allclose(found, torch.full_like(found, 0.3), atol=1e-5)
    assert latent_upscale(latent(0.3, 8, 8), method, 128, 64)["samples"].shape == (1, 4, 8, 16)


def test_bislerp_goes_along_the_arc_between_neighbours():
    pair = torch.zeros(1, 4, 1, 2)
    pair[0, 0, 0, 0], pair[0, 1, 0, 1] = 1.0, 3.0  # at right angles, 1 and 3 long
    found = resize(pair, 4, 1, "bislerp")[0, :2, 0].T  # places 0, 0.25, 0.75, 1
    angle = torch.tensor([0.0, 0.25, 0.75, 1.0]) * torch.pi / 2
    length = torch.tensor([1.0, 1.5, 2.5, 3.0])
    assert torch.allclose(found, torch.stack([angle.cos(), angle.sin()], 1) * length[:, None], atol=1e-6)
    opposite = torch.tensor([1.0, -1.0]).reshape(1, 1, 1, 2)
    assert torch.allclose(resize(opposite, 4, 1, "bislerp").flatten(), torch.tensor([1.0, 0.5, -0.5, -1.0]))


def sampled(tmp_path, latent_nodes, source, steps=2):
    nodes = {
        "c": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "graphflow-tiny"}},
        "t": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["c", 1], "text": "a cat on a pink background"}},
        "k": {
            "class_type": "KSampler",
            "inputs": {
                "model": ["c", 0],
                "positive": ["t", 0],
                "negative": ["t", 0],
                "latent_image": source,
                "seed": 3,
                "steps": steps,
                "cfg": 1.0,
            },
        },
        "s": {"class_type": "SaveLatent", "inputs": {"samples": ["k", 0]}},
        **latent_nodes,
    }
    from safetensors.torch import load_file

    with gf.Engine(settings=gf.Settings(output_dir=tmp_path)) as engine:
        result = engine.run(gf.Workflow.from_json(nodes))
        return load_file(result["s"].ui["latents"][0]["path"])["latent_tensor"]


EMPTY = {"e": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 3}}}


def test_a_sampler_changes_a_latent_only_where_the_mask_is_one(tmp_path):
    nodes = EMPTY | {
        "m": {"class_type": "SolidMask", "inputs": {"value": 0.0, "width": 64, "height": 64}},
        "w": {"class_type": "SolidMask", "inputs": {"value": 1.0, "width": 32, "height": 64}},
        "b": {
            "class_type": "MaskComposite",
            "inputs": {"destination": ["m", 0], "source": ["w", 0], "x": 0, "y": 0, "operation": "add"},
        },
        "n": {"class_type": "SetLatentNoiseMask", "inputs": {"samples": ["e", 0], "mask": ["b", 0]}},
    }
    found = sampled(tmp_path, nodes, ["n", 0])
    assert found[..., 4:].abs().max() < 1e-6, "the empty latent is kept on the right"
    assert found[..., :4].abs().mean() > 0.05


def test_a_latent_taken_out_of_a_batch_is_drawn_as_in_the_batch(tmp_path):
    together = sampled(tmp_path, EMPTY, ["e", 0])
    one = {"o": {"class_type": "LatentFromBatch", "inputs": {"samples": ["e", 0], "batch_index": 2}}}
    assert torch.allclose(sampled(tmp_path, EMPTY | one, ["o", 0]), together[2:], atol=1e-4)


@pytest.mark.parametrize("grow", [0, 6, 7])
def test_what_is_to_be_inpainted_is_masked_with_a_margin(tmp_path, grow):
    from graphflow_nodes.library.loaders import checkpoint_loader_simple

    settings = gf.Settings()
    vae = checkpoint_loader_simple(settings, "graphflow-tiny").VAE
    mask = torch.zeros(1, 64, 64)
    mask[:, 20:40, 20:40] = 1.0
    found = edits.vae_encode_for_inpaint(settings, torch.full((1, 66, 64, 3), 0.5), vae, mask, grow)
    assert found["samples"].shape == (1, 4, 8, 8) and found["noise_mask"].shape == (1, 1, 64, 64)
    # The mask is resampled from 64 to 66 rows and cut by one: 20 to 21 rows remain.
    assert 20 + max(0, grow - 1) <= found["noise_mask"][0, 0].amax(1).sum() <= 22 + max(0, grow - 1)


@pytest.mark.parametrize(("height", "width"), [(7, 64), (64, 7), (1, 1)])
def test_a_picture_that_is_smaller_than_a_latent_is_refused_with_its_size(height, width):
    from graphflow_nodes.library.loaders import checkpoint_loader_simple
    from graphflow_nodes.library.vae import vae_encode

    settings, pixels = gf.Settings(), torch.zeros(1, height, width, 3)
    vae = checkpoint_loader_simple(settings, "graphflow-tiny").VAE
    for encode in (
        lambda: vae_encode(settings, pixels, vae),
        lambda: edits.vae_encode_for_inpaint(settings, pixels, vae, torch.zeros(1, 8, 8)),
    ):
        with pytest.raises(gf.GraphFlowError, match=f"the image is {width} x {height} pixels") as error:
            encode()
        assert (error.value.problems[0].code, error.value.problems[0].input) == ("too_small", "pixels")


def test_a_latent_is_saved_and_read_again_as_it_was(tmp_path):
    from graphflow_nodes.library.latents import load_latent

    nodes = {
        "e": {"class_type": "EmptySD3LatentImage", "inputs": {"width": 32, "height": 16}},
        "s": {"class_type": "SaveLatent", "inputs": {"samples": ["e", 0], "filename_prefix": "x"}},
    }
    with gf.Engine(settings=gf.Settings(output_dir=tmp_path)) as engine:
        path = engine.run(gf.Workflow.from_json(nodes))["s"].ui["latents"][0]["filename"]
    found = load_latent(gf.Settings(input_dir=tmp_path), path)
    assert torch.equal(found["samples"], edits.empty_sd3_latent_image(32, 16)["samples"])


@pytest.mark.parametrize("content", ["other", "text"])
def test_a_file_that_is_not_a_latent_is_named(tmp_path, content):
    from graphflow_nodes.library.latents import load_latent
    from safetensors.torch import save_file

    if content == "text":
        (tmp_path / "a.latent").write_text("not a latent")
    else:
        save_file({"weight": torch.zeros(1)}, tmp_path / "a.latent")
    with pytest.raises(gf.GraphFlowError) as error:
        load_latent(gf.Settings(input_dir=tmp_path), "a.latent")
    assert error.value.problems[0].code == ("not_a_latent" if content == "other" else "unreadable_latent")
