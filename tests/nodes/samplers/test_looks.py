"""Quick looks at latents whose colours are not published: learned from what their VAE decodes."""

import io
from dataclasses import replace

import torch
from graphflow_nodes.model.latent import LatentFormat
from graphflow_nodes.samplers import looks as module
from graphflow_nodes.samplers.looks import Looks
from graphflow_nodes.samplers.preview import preview_jpeg
from PIL import Image
from torch.nn.functional import avg_pool2d

import graphflow as gf
from tests.nodes.families import tiny_flow
from tests.nodes.families.test_flow_runs import workflow

FLUX = LatentFormat(16, scale=0.3611, shift=0.1159)


def drawn(format, weights, seed, side=16):
    """A latent and the images of a decoder that colours each cell by an affine map, with some noise inside of cells."""
    numbers = torch.Generator().manual_seed(seed)
    latent = torch.randn(1, format.channels, side, side, generator=numbers)
    colours = torch.einsum("chw,cr->hwr", latent[0], weights) + torch.tensor([0.1, 0.0, -0.2])
    pixels = colours.repeat_interleave(format.factor, 0).repeat_interleave(format.factor, 1)
    pixels = pixels + 0.05 * torch.randn(pixels.shape, generator=numbers)
    return latent, (pixels[None] + 1) / 2


def test_an_affine_map_is_found_and_serves_every_family_of_its_unit():
    seen, weights = Looks(), 0.1 * torch.randn(16, 3, generator=torch.Generator().manual_seed(1))
    latent, images = drawn(FLUX, weights, 2)
    seen.note(latent, FLUX)
    assert seen.known(FLUX) == FLUX
    seen.learn(latent, images)
    other = seen.known(replace(FLUX, multiple=2))
    torch.testing.assert_close(torch.tensor(other.preview), weights, rtol=0, atol=0.005)
    torch.testing.assert_close(torch.tensor(other.preview_bias), torch.tensor([0.1, 0.0, -0.2]), rtol=0, atol=0.01)
    assert not seen.known(replace(FLUX, scale=1.5305, shift=0.0609)).preview
    assert len(preview_jpeg(latent, other)) > 100


def test_nothing_is_learned_of_latents_that_no_sampler_made_or_that_are_too_small():
    seen, weights = Looks(), torch.ones(16, 3)
    latent, images = drawn(FLUX, weights, 3)
    seen.learn(latent, images)
    small, shown = drawn(FLUX, weights, 4, side=4)
    seen.note(small, FLUX)
    seen.learn(small, shown)  # 16 cells say too little of 17 numbers
    seen.note(latent, FLUX)
    seen.learn(latent, images[:, 8:])  # other sizes than those of the latent
    assert not seen.known(FLUX).preview
    published = replace(FLUX, preview=((1.0, 0.0, 0.0),) * 16)
    assert seen.known(published) is published


def test_latents_that_nothing_decodes_are_forgotten(monkeypatch):
    monkeypatch.setattr(module, "REMEMBERED", 2)
    seen, weights = Looks(), torch.ones(16, 3)
    latent, images = drawn(FLUX, weights, 5)
    for number in (5, 6, 7):
        seen.note(drawn(FLUX, weights, number)[0], FLUX)
    seen.learn(latent, images)
    assert not seen.known(FLUX).preview


def test_of_a_video_the_first_frame_is_looked_at():
    seen, weights = Looks(), 0.1 * torch.randn(16, 3, generator=torch.Generator().manual_seed(1))
    video = LatentFormat(16, axes=3, time_factor=4)
    latent, images = drawn(video, weights, 8)
    latent = torch.stack([latent, torch.zeros_like(latent)], dim=2)
    seen.note(latent, video)
    seen.learn(latent, torch.cat([images, torch.zeros(4, *images.shape[1:])]))
    torch.testing.assert_close(torch.tensor(seen.known(video).preview), weights, rtol=0, atol=0.005)


def test_behind_the_first_image_a_sampler_shows_what_it_is_at(tmp_path, monkeypatch):
    own, seen = Looks(), []
    monkeypatch.setattr("graphflow_nodes.samplers.run.looks", lambda: own)
    monkeypatch.setattr(module, "looks", lambda: own)
    for name in ("z_image_turbo_bf16.safetensors", "qwen_3_4b.safetensors", "ae.safetensors"):
        tiny_flow.save(tmp_path, name)
    made = workflow("z_image", **{"5__width": 128, "5__height": 128, "8__steps": 2})

    def note(event):
        if isinstance(event, gf.Progress) and event.node == "8" and event.preview:
            seen.append(event.preview())

    settings = gf.Settings(models=(tmp_path,), output_dir=tmp_path, temp_dir=tmp_path, device="cpu")
    with gf.Engine(settings=settings, cache=gf.Cache()) as engine:
        engine.run(made, targets=["9"], on_event=note)
        assert not seen
        done = engine.run(made.set("8.seed", 5), targets=["9"], on_event=note)
    cells = avg_pool2d(done["9"].outputs["IMAGE"].movedim(-1, 1), 8)[0].movedim(0, -1)
    with Image.open(io.BytesIO(seen[-1])) as opened:
        look = torch.tensor([*opened.resize((16, 16), Image.Resampling.BOX).tobytes()])
    # A random decoder is far from an affine map; a look at random would have 0 +- 0.04 in common with the image.
    assert torch.corrcoef(torch.stack([look.float(), cells.flatten()]))[0, 1] > 0.3
