"""The loss of an autoencoder is the published one, with the terms that its options add."""

import math

import torch
from diffusers import AutoencoderKL
from graphflow_nodes.training.autoencoder import ImageSet, Perceptual, VaeLoss, VaeObjective
from graphflow_nodes.training.randomness import normal

from tests.nodes.architectures import VAE
from training.train_tiny import difference


def small_vae():
    return AutoencoderKL(**{name: value for name, value in VAE.items() if name[0] != "_"})


def test_the_loss_of_a_vae_is_the_published_one():
    vae = small_vae()
    data = ImageSet(torch.rand(1, 16, 16, 3))
    found = VaeObjective(vae, data, VaeLoss(kl_weight=0.5, factor=2), 3, torch.device("cpu")).sum([0], 4)
    x = data.images.movedim(-1, 1) * 2 - 1
    posterior = vae.encode(x).latent_dist
    z = posterior.mean + posterior.std * normal((4, 8, 8), 3, "latent", "step", 4, 0, 1)
    kl = 0.5 * (posterior.mean**2 + posterior.var - 1 - posterior.logvar).double().sum()
    wanted = ((x - vae.decode(z).sample).abs().double().sum() + 0.5 * kl) / x.numel()
    assert torch.allclose(found.double(), wanted, rtol=1e-5)


def test_its_options_are_those_that_the_built_in_model_is_trained_with():
    """Mean latents with a little noise, L1 + L2 + edges, and a little shrinkage of the latents."""
    torch.manual_seed(0)
    vae = small_vae()
    data = ImageSet(torch.rand(1, 16, 16, 3))
    options = VaeLoss(kl_weight=0.25, factor=2, mse_weight=1.0, edge_weight=0.5, latent_noise=0.05)
    found = VaeObjective(vae, data, options, 3, torch.device("cpu")).sum([0], 4)
    found.backward()
    slopes = [weight.grad.clone() for weight in vae.parameters()]
    vae.zero_grad()
    x = data.images.movedim(-1, 1) * 2 - 1
    z = vae.encode(x).latent_dist.mean
    y = vae.decode(z + 0.05 * normal((4, 8, 8), 3, "latent", "step", 4, 0, 1)).sample
    wanted = difference(y, x) + 0.5 * 0.25 * z.numel() / x.numel() * z.square().mean()
    wanted.backward()
    constant = 0.5 * 0.25 * z.numel() / x.numel() * (0.05**2 - 1 - 2 * math.log(0.05))
    assert torch.allclose(found, wanted + constant, rtol=1e-5)
    learnt = [
        (slope, weight.grad) for slope, weight in zip(slopes, vae.parameters(), strict=True) if weight.grad is not None
    ]
    ours, theirs = (torch.cat([pair[at].flatten() for pair in learnt]) for at in (0, 1))
    assert (ours - theirs).norm() < 1e-3 * theirs.norm()


def test_an_image_encoder_may_judge_what_is_decoded():
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2, "num_attention_heads": 1}
    seen = CLIPVisionModelWithProjection(CLIPVisionConfig(**config, image_size=32, patch_size=16, projection_dim=8))
    about = type("About", (), {"image_size": 32, "mean": (0.5,) * 3, "deviation": (0.5,) * 3})
    judge = Perceptual(seen.eval(), about)
    x = torch.rand(2, 3, 64, 64) * 2 - 1
    assert float(judge(x, x).max()) == 0 and float(judge(x, x.flip(3)).min()) > 0
    vae = small_vae()
    data = ImageSet(torch.rand(1, 16, 16, 3))
    plain, judged = (
        VaeObjective(vae, data, VaeLoss(perceptual_weight=1.0, factor=2), 0, torch.device("cpu"), one).sum([0], 0)
        for one in (None, judge)
    )
    assert float(judged) > float(plain)
