"""Batches of pictures and latents."""

import torch
from graphflow_nodes.library import batch

import graphflow as gf


def latent(count, value=None, **more):
    x = torch.arange(count, dtype=torch.float32).reshape(-1, 1, 1, 1).expand(count, 4, 2, 2).clone()
    return {"samples": x if value is None else torch.full_like(x, value), **more}


def test_a_second_picture_gets_the_size_and_the_alpha_of_the_first():
    found = batch.image_batch(torch.zeros(1, 4, 4, 4), torch.full((2, 8, 16, 3), 0.5))
    assert found.shape == (3, 4, 4, 4)
    assert torch.allclose(found[1, 0, 0], torch.tensor([0.5, 0.5, 0.5, 1.0]))


def test_some_of_a_batch_are_taken_and_never_none():
    pictures = torch.arange(5.0).reshape(5, 1, 1, 1)
    assert batch.image_from_batch(pictures, 3, 9).flatten().tolist() == [3.0, 4.0]
    assert batch.image_from_batch(pictures, 99, 2).flatten().tolist() == [4.0]
    assert batch.repeat_image_batch(pictures[:2], 2).flatten().tolist() == [0.0, 1.0, 0.0, 1.0]


def test_latents_taken_from_a_batch_remember_their_place_and_mask():
    masks = torch.arange(3.0).reshape(3, 1, 1, 1)
    found = batch.latent_from_batch(latent(3, noise_mask=masks), 1, 2)
    assert found["samples"][:, 0, 0, 0].tolist() == [1.0, 2.0]
    assert found["batch_index"] == [1, 2] and found["noise_mask"].flatten().tolist() == [1.0, 2.0]
    again = batch.latent_from_batch(found, 1, 1)
    assert again["batch_index"] == [2]


def test_repeated_latents_get_places_of_their_own():
    found = batch.repeat_latent_batch(latent(2, batch_index=[4, 5], noise_mask=torch.zeros(2, 1, 8, 8)), 3)
    assert found["samples"][:, 0, 0, 0].tolist() == [0.0, 1.0] * 3
    assert found["batch_index"] == [4, 5, 6, 7, 8, 9] and len(found["noise_mask"]) == 6


def test_two_batches_of_latents_are_one():
    found = batch.latent_batch(latent(1), {"samples": torch.ones(2, 4, 4, 4)})
    assert found["samples"].shape == (3, 4, 2, 2) and found["batch_index"] == [0, 0, 1]


def run(nodes, tmp_path):
    with gf.Engine(settings=gf.Settings(output_dir=tmp_path)) as engine:
        return engine.run(gf.Workflow.from_json(nodes))


def test_any_number_of_pictures_become_one_batch(tmp_path):
    nodes = {str(i): {"class_type": "EmptyImage", "inputs": {"width": 4, "height": 4}} for i in range(11)}
    nodes["all"] = {
        "class_type": "BatchImagesNode",
        "inputs": {f"images.image{i}": [str(i), 0] for i in range(11)},
    }
    nodes["size"] = {"class_type": "GetImageSize", "inputs": {"image": ["all", 0]}}
    nodes["show"] = {"class_type": "PreviewAny", "inputs": {"source": ["size", 2]}}
    assert run(nodes, tmp_path)["show"].ui == {"text": ["11"]}
    nodes["all"]["inputs"] = {"images.image0": ["0", 0]}
    assert run(nodes, tmp_path)["show"].ui == {"text": ["1"]}


def test_pictures_are_batched_anew_and_what_follows_runs_for_each_batch(tmp_path):
    nodes = {
        "a": {"class_type": "EmptyImage", "inputs": {"width": 4, "height": 4, "batch_size": 5}},
        "r": {"class_type": "RebatchImages", "inputs": {"images": ["a", 0], "batch_size": 2}},
        "s": {"class_type": "GetImageSize", "inputs": {"image": ["r", 0]}},
        "p": {"class_type": "PreviewAny", "inputs": {"source": ["s", 2]}},
    }
    assert run(nodes, tmp_path)["p"].ui == {"text": ["2", "2", "1"]}


def test_latents_are_batched_anew_with_their_noise_and_masks():
    masked = latent(3, noise_mask=torch.ones(1, 1, 8, 8))
    found = batch.rebatch_latents([masked, latent(2, batch_index=[7, 8])], [2])
    assert [len(item["samples"]) for item in found] == [2, 1, 2]
    assert [item["batch_index"] for item in found] == [[0, 1], [2], [7, 8]]
    assert [("noise_mask" in item) for item in found] == [True, True, False]
