"""What a step of the workflow of the model of scenes costs beside the same step in a bare PyTorch loop.

`python -m benchmarks.training_scenes`

Both make the steps of `training/workflows/scenes.json`: the U-Net in bf16 on 32 latents, with captions that a text
encoder encodes in each step and v prediction, AdamW and averages of the weights; and the autoencoder on 8 images. They
take turns as in `benchmarks.training`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from graphflow_nodes.devices.use import open_device
from graphflow_nodes.model.entry import Entry
from graphflow_nodes.training.attention import fast_attention
from graphflow_nodes.training.autoencoder import ImageSet, VaeLoss, VaeObjective
from graphflow_nodes.training.denoiser import parameters_of, text_modules, whole_module
from graphflow_nodes.training.examples import Example, TrainingSet
from graphflow_nodes.training.loop import train
from graphflow_nodes.training.new_model import new_model
from graphflow_nodes.training.options import LoopOptions, LossOptions
from graphflow_nodes.training.randomness import normal
from graphflow_nodes.training.text import TextObjective, TextTower
from graphflow_nodes.training.trained import with_prediction
from torch import Tensor, nn

import graphflow as gf
from benchmarks.training import Turns, in_turns, row
from training.modules import noise_schedule
from training.scene_data import scenes_of, write_architecture
from training.scene_model import new_text_encoder, new_unet, new_vae, the_tokenizer
from training.scenes import captions, draw, load_things
from training.train_tiny import difference, tokens_of

EXAMPLES, BATCH, IMAGES = 64, 32, 8
LOOP = {"learning_rate": 1e-3, "weight_decay": 1e-3, "beta2": 0.99}


def bare(weights: list[nn.Parameter], decay: float, loss_at: Callable[[int], Tensor]) -> Callable[[int], None]:
    """Steps of AdamW with clipped gradients and averages of the weights."""
    optimiser = torch.optim.AdamW(weights, lr=1e-3, weight_decay=1e-3, betas=(0.9, 0.99))
    means, made = [weight.detach().clone() for weight in weights], [0]

    def steps(count: int) -> None:
        for _ in range(count):
            loss = loss_at(made[0])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimiser.step()
            with torch.no_grad():
                torch._foreach_lerp_(means, [weight.detach() for weight in weights], 1 - decay)
            loss.item()
            made[0] += 1

    return steps


def denoiser_sides(folder: Path) -> tuple[Callable[[int], None], Turns]:
    texts = [captions(scene)[0] for scene in scenes_of(EXAMPLES)]
    latents = torch.stack([normal((4, 16, 16), 0, "latent", at) for at in range(EXAMPLES)])
    tokenizer = the_tokenizer(folder / "tokenizer")
    unet, text = new_unet(), new_text_encoder(tokenizer)
    tokens, schedule = tokens_of(tokenizer, texts), noise_schedule()

    def loss_at(step: int) -> Tensor:
        chosen = torch.randint(0, EXAMPLES, (BATCH,))
        x, noise, t = latents[chosen], torch.randn_like(latents[chosen]), torch.randint(0, 1000, (BATCH,))
        with torch.autocast("cpu", torch.bfloat16), fast_attention("cpu", x):
            with torch.no_grad():
                context = text(tokens[chosen]).last_hidden_state
            answer = unet(schedule.add_noise(x, noise, t), t, context).sample
        return (answer.float() - schedule.get_velocity(x, noise, t)).pow(2).mean()

    write_architecture(folder / "scenes")

    def work(context: gf.Context) -> None:
        opened = new_model(folder / "scenes", 1, context.settings, texts, 945)
        assert opened.model is not None and opened.clip is not None
        device = open_device(context.settings)
        examples = tuple(Example(f"{at}.png", latents[at], Entry(), 1, caption=text) for at, text in enumerate(texts))
        data = TrainingSet(examples, Entry())
        model = with_prediction(opened.model, "v_prediction")
        module: Any = whole_module(device, model, "denoiser")
        tower = TextTower(opened.clip, text_modules(device, opened.clip, learns=False))
        loss = LossOptions(caption_dropout=0.1)
        objective = TextObjective(model, module, data, loss, 0, device.device, tower)
        options = LoopOptions(steps=1_000_000, batch_size=BATCH, ema_decay=0.999, **LOOP)
        learnt = parameters_of({"denoiser": module})
        train(context, device, learnt, objective, data, options, precision=torch.bfloat16)

    return bare(list(unet.parameters()), 0.999, loss_at), Turns(work, folder)


def autoencoder_sides(folder: Path) -> tuple[Callable[[int], None], Turns]:
    things = load_things()
    drawn = torch.stack([torch.from_numpy(draw(things, scene).copy()) for scene in scenes_of(EXAMPLES)])
    vae = new_vae()

    def loss_at(step: int) -> Tensor:
        chosen = torch.randint(0, EXAMPLES, (IMAGES,))
        x = drawn[chosen].permute(0, 3, 1, 2).float() / 127.5 - 1
        with torch.autocast("cpu", torch.bfloat16):
            z = vae.encode(x).latent_dist.mean
            y = vae.decode(z + 0.05 * torch.randn(z.shape)).sample
        return difference(y.float(), x) + 1e-3 * z.float().pow(2).mean()

    def work(context: gf.Context) -> None:
        module, device = new_vae(), open_device(context.settings)
        data = ImageSet(drawn.float() / 255)
        loss = VaeLoss(kl_weight=0.096, mse_weight=1.0, edge_weight=0.5, latent_noise=0.05)
        options = LoopOptions(steps=1_000_000, batch_size=IMAGES, ema_decay=0.995, **LOOP)
        objective = VaeObjective(module, data, loss, 0, device.device)
        train(context, device, parameters_of({"vae": module}), objective, data, options, precision=torch.bfloat16)

    return bare(list(vae.parameters()), 0.995, loss_at), Turns(work, folder)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--block", type=int, default=2, help="steps of a block")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print(f"{'':26}{'bare':>10}{'ours':>10}{'ratio':>8}")
    for name, sides in (("U-Net", denoiser_sides), ("autoencoder", autoencoder_sides)):
        with tempfile.TemporaryDirectory() as folder:
            script, nodes = sides(Path(folder))
            print(row(name, in_turns({"ours": nodes, "bare": script}, options.pairs, options.block)), flush=True)
            nodes.end()


if __name__ == "__main__":
    main()
