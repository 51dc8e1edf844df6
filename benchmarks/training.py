"""What a step of training costs beside a bare PyTorch loop with the same modules.

`python -m benchmarks.training`

The bare loop does what diffusers' training scripts do: it draws noise and times, adds the noise by DDPMScheduler, asks
the U-Net, and steps with clipped gradients and torch's fused AdamW, the optimiser of both. Ours is the loop of the
training nodes, with its randomness by counters, batches by (seed, epoch), checks of the loss, progress and
cancellation. Both train copies of the same modules on the same latents, one thread, in blocks of steps that take turns
(ours, bare, bare, ours ...), so that what else the machine does falls on both. CPU time a step: the medians, and the
median of the ratios of pairs.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import date
from pathlib import Path
from threading import Event, Semaphore, Thread

import torch
from diffusers import DDPMScheduler
from graphflow_nodes.devices.use import open_device
from graphflow_nodes.families.kits.unet_network import build
from graphflow_nodes.families.opened import open_model
from graphflow_nodes.files.folders import BUILTIN
from graphflow_nodes.files.load import load_part
from graphflow_nodes.model.config import Config
from graphflow_nodes.model.entry import Entry
from graphflow_nodes.training.examples import Example, TrainingSet
from graphflow_nodes.training.loop import train
from graphflow_nodes.training.low_rank import add_terms
from graphflow_nodes.training.new_weights import new_entries
from graphflow_nodes.training.objective import Objective
from graphflow_nodes.training.options import LoopOptions, LossOptions
from graphflow_nodes.training.randomness import normal
from torch import Tensor, nn

import graphflow as gf

EXAMPLES = 16
SD1_LIKE = Config(
    in_channels=4,
    out_channels=4,
    layers_per_block=2,
    block_out_channels=(64, 128, 256, 256),
    down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    cross_attention_dim=768,
    attention_head_dim=8,
)
"""Stable Diffusion 1.x at a fifth of its width."""


def unets() -> dict[str, tuple[nn.Module, int, int, int]]:
    """Case -> the U-Net, cells of a side of its latents, columns of its text, rows of a batch."""
    settings = gf.Settings(device="cpu")
    own = load_part(open_model(BUILTIN / "graphflow-tiny", settings).model, "denoiser", torch.float32)
    like = build(SD1_LIKE)
    like.load_state_dict({entry.name: entry.make() for entry in new_entries(like, 0, "denoiser")}, assign=True)
    lora = copy.deepcopy(own)
    add_terms(lora.requires_grad_(False), "transformers", 8, 8.0, 0)
    return {
        "built-in model, whole": (own.requires_grad_(True), 8, own.config.cross_attention_dim, 8),
        "built-in model, LoRA": (lora, 8, own.config.cross_attention_dim, 8),
        "SD 1.x-like, whole": (like.requires_grad_(True), 32, 768, 2),
    }


def learning(module: nn.Module) -> dict[str, nn.Parameter]:
    return {name: weight for name, weight in module.named_parameters() if weight.requires_grad}


class Turns:
    """A training by the loop of the nodes, on a thread of its own, that makes steps when it is called: it waits where
    it reports a step. So a training begins and ends once, as a user's does, and what is timed are its steps."""

    def __init__(self, work: Callable[[gf.Context], object], folder: Path) -> None:
        self._wanted, self._made, self._stop = Semaphore(0), Semaphore(0), Event()
        context = gf.Context("t", gf.Settings(device="cpu", temp_dir=folder), dict, self._reported, self._stop)

        def run() -> None:
            with suppress(gf.Cancelled):
                work(context)

        self._thread = Thread(target=run)
        self._thread.start()
        self._made.acquire()

    def _reported(self, event: object) -> None:
        if isinstance(event, gf.Progress):
            self._made.release()
            self._wanted.acquire()

    def __call__(self, count: int) -> None:
        for _ in range(count):
            self._wanted.release()
            self._made.acquire()

    def end(self) -> None:
        self._stop.set()
        self._wanted.release()
        self._thread.join()


def ours(module: nn.Module, latents: Tensor, texts: Tensor, batch: int, folder: Path) -> Turns:
    """The same by the nodes' loop."""

    def work(context: gf.Context) -> None:
        model = open_model(BUILTIN / "graphflow-tiny", context.settings).model
        assert model is not None
        examples = tuple(
            Example(f"{at}.png", latent, Entry(text=text), 1)
            for at, (latent, text) in enumerate(zip(latents, texts, strict=True))
        )
        data, device = TrainingSet(examples, None), open_device(context.settings)
        objective = Objective(model, module, data, LossOptions(), 0, device.device)
        train(context, device, learning(module), objective, data, LoopOptions(steps=1_000_000, batch_size=batch))

    return Turns(work, folder)


def bare(module: nn.Module, latents: Tensor, texts: Tensor, batch: int) -> Callable[[int], None]:
    """A function that makes the same steps with nothing around them."""
    schedule = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    weights = list(learning(module).values())
    optimiser = torch.optim.AdamW(weights, lr=1e-4, weight_decay=0.01, fused=True)

    def steps(count: int) -> None:
        for _ in range(count):
            chosen = torch.randint(0, len(latents), (batch,))
            x, noise, times = latents[chosen], torch.randn_like(latents[chosen]), torch.randint(0, 1000, (batch,))
            answer = module(schedule.add_noise(x, noise, times), times, texts[chosen], return_dict=False)[0]
            loss = nn.functional.mse_loss(answer, noise)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimiser.step()

    return steps


def timed(steps: Callable[[int], None], count: int) -> float:
    """CPU seconds of one step."""
    began = time.process_time()
    steps(count)
    return (time.process_time() - began) / count


def in_turns(sides: Mapping[str, Callable[[int], None]], pairs: int, count: int) -> dict[str, list[float]]:
    """CPU seconds of a step of each side, in blocks of so many steps that take turns."""
    for steps in sides.values():
        timed(steps, count)
    found: dict[str, list[float]] = {key: [] for key in sides}
    for pair in range(pairs):
        for key in list(sides)[:: 1 if pair % 2 else -1]:
            found[key].append(timed(sides[key], count))
    return found


def row(name: str, found: Mapping[str, Sequence[float]]) -> str:
    """A line of the table: medians, and the median of the ratios of pairs."""
    ratio = statistics.median(a / b for a, b in zip(found["ours"], found["bare"], strict=True))
    bare, own = (1e3 * statistics.median(found[key]) for key in ("bare", "ours"))
    return f"{name:26}{bare:8.1f}ms{own:8.1f}ms{ratio:8.3f}"


def measured(pairs: int, block: int) -> list[str]:
    lines = [f"{'':26}{'bare':>10}{'ours':>10}{'ratio':>8}"]
    for name, (module, side, width, batch) in unets().items():
        latents = torch.stack([normal((4, side, side), 0, "latent", at) for at in range(EXAMPLES)])
        texts = torch.stack([normal((77, width), 0, "text", at) for at in range(EXAMPLES)])
        with tempfile.TemporaryDirectory() as folder:
            turns = ours(copy.deepcopy(module), latents, texts, batch, Path(folder))
            sides = {"ours": turns, "bare": bare(copy.deepcopy(module), latents, texts, batch)}
            found = in_turns(sides, pairs, block if side < 32 else max(1, block // 8))
            turns.end()
        lines.append(row(name, found))
        print(lines[-1], flush=True)
    return lines


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=24)
    parser.add_argument("--block", type=int, default=24, help="steps of a block; an eighth of it for the larger model")
    parser.add_argument("-o", "--output", type=Path, help="keep the table in a file")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    lines = measured(options.pairs, options.block)
    if options.output is not None:
        about = f"1 thread, torch {torch.__version__}, {options.pairs} pairs"
        head = f"CPU time of a step of training, {date.today()}, {about}"
        options.output.write_text("\n".join([head, "", *lines]) + "\n")


if __name__ == "__main__":
    main()
