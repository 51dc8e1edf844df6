"""The pass loop of a device without the rest of an engine: `python -m benchmarks.pass_loop [--part 1] [--side 16 32]`

1. A U-Net of the size of SD 1.5 (860 million weights, random) with four samplers that use guidance, so that each asks
   two rows a step: CPU seconds of a row one sampler after the other, and all four at a time in shared passes. The
   weights take 3.4 GB in float32, 1.7 GB with `--dtype bfloat16`. `--side`: of the latent in cells; an image has 8
   times as many pixels. Beside it: the same network in torch's own form, called without the loop, and which part each
   reaches of the rate of one large product of matrices, so the most that anything could still gain is the rest.
2. What the loop costs with 16 samplers at a time, whose network takes no time: all CPU time of the process, and what is
   left of it without the work on tensors that a run without a loop has as well (rows are stacked to a pass).
"""

from __future__ import annotations

import argparse
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from graphflow_nodes.devices.forward import Answers, ForwardCall, forward
from graphflow_nodes.devices.passes import PassLoop
from graphflow_nodes.devices.products import adapt, are_by_onednn, product
from graphflow_nodes.devices.sizes import size_of_passes
from graphflow_nodes.model.row import Row
from torch.utils.flop_counter import FlopCounterMode

CPU = torch.device("cpu")
TOKENS, WIDTH = 77, 768


def large_unet(dtype: torch.dtype) -> torch.nn.Module:
    """The network of SD 1.5 with small random weights."""
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        made = UNet2DConditionModel(cross_attention_dim=WIDTH).to(dtype).eval().requires_grad_(False)
    made = made.to_empty(device="cpu")
    with torch.no_grad():
        for weight in made.parameters():
            weight.uniform_(-0.02, 0.02)
    return made


def unet_rows(seed: int, side: int, dtype: torch.dtype) -> list[Row]:
    """With the prompt and without it."""
    chance = torch.Generator().manual_seed(seed)
    x = torch.randn(4, side, side, generator=chance).to(dtype)
    texts = torch.randn(2, TOKENS, WIDTH, generator=chance).to(dtype)
    return [Row({"x": x, "time": torch.tensor(500.0), "text": text}) for text in texts]


def unet_forward(module: torch.nn.Module, stacked: dict[str, torch.Tensor], *_: object) -> Answers:
    found = module(stacked["x"], stacked["time"], encoder_hidden_states=stacked["text"]).sample
    return {"out": found}


def plain_cost(network: torch.nn.Module, rows: Sequence[Row], repeat: int) -> float:
    """CPU seconds of a row in passes that nothing but the network makes."""
    call, found = ForwardCall("plain", network, unet_forward), []
    for _ in range(repeat + 1):  # the first pass of a shape is slow
        began = time.process_time()
        forward(call, rows, CPU, lambda: False)
        found.append((time.process_time() - began) / len(rows))
    return min(found[1:])


def operations_of_row(network: torch.nn.Module, rows: Sequence[Row]) -> float:
    with FlopCounterMode(display=False) as counter:
        forward(ForwardCall("plain", network, unet_forward), rows, CPU, lambda: False)
    return counter.get_total_flops() / len(rows)


def peak(dtype: torch.dtype, side: int = 2048) -> float:
    """Operations a second of one large product of matrices."""
    one, other = (torch.randn(side, side).to(dtype) for _ in range(2))
    multiply = product if dtype == torch.float32 and are_by_onednn() else torch.nn.functional.linear
    found = []
    with torch.inference_mode():
        for _ in range(8):
            began = time.process_time()
            multiply(one, other)
            found.append(time.process_time() - began)
    return 2 * side**3 / min(found)


def cost_of_row(
    loop: PassLoop, call: ForwardCall, rows: Sequence[list[Row]], steps: int, size: int, at_once: bool
) -> float:
    """CPU seconds of this process, a row that was asked for."""
    together = threading.Barrier(len(rows))

    def sampler(asked: list[Row]) -> None:
        with loop.seat(size) as seat:
            if at_once:
                together.wait()
            for step in range(steps):
                seat.left = steps - step
                seat.ask(call, asked)

    began = time.process_time()
    if at_once:
        with ThreadPoolExecutor(len(rows)) as pool:
            list(pool.map(sampler, rows))
    else:
        for one in rows:
            sampler(one)
    return (time.process_time() - began) / (steps * sum(map(len, rows)))


def report_large(sides: Sequence[int], repeat: int, dtype: torch.dtype, steps: int, samplers: int = 4) -> None:
    network = large_unet(dtype)
    asked = {side: [unet_rows(seed, side, dtype) for seed in range(samplers)] for side in sides}
    sizes = {side: [size_of_passes(2, (side, side), together) for together in (1, samplers)] for side in sides}
    rows = {side: [row for of_one in asked[side] for row in of_one] for side in sides}
    filled = {side: [rows[side][:size] for size in sizes[side]] for side in sides}
    plain = {side: [plain_cost(network, rows, repeat) for rows in filled[side]] for side in sides}
    operations = {side: operations_of_row(network, filled[side][0]) for side in sides}
    most = peak(dtype)
    adapt(network)
    loop, call = PassLoop(CPU), ForwardCall("unet", network, unet_forward)
    print(
        f"\nU-Net of SD 1.5's size, {str(dtype).removeprefix('torch.')}, {samplers} samplers with guidance: CPU a row, "
        f"and the part of {most / 1e9:.0f} billion operations a second, those of one large product"
    )
    for side in sides:
        own, shared = sizes[side]
        cost_of_row(loop, call, asked[side][:1], 1, own, at_once=False)  # the first pass of a shape is slow
        pairs = []
        for _ in range(repeat):
            alone = cost_of_row(loop, call, asked[side], 1, own, at_once=False)
            pairs.append((alone, cost_of_row(loop, call, asked[side], steps, shared, at_once=True)))
        found = [min(each) for each in zip(*pairs, strict=True)]
        gains = ", ".join(f"{one / other:4.2f} x" for one, other in pairs)
        costs = [f"{1000 * cost:5.0f} ms ({operations[side] / cost / most:3.0%})" for cost in (*found, *plain[side])]
        print(
            f"  {8 * side:4} px   passes of {own} one after the other {costs[0]}   of {shared} at a time {costs[1]}   "
            f"{found[0] / found[1]:4.2f} x   (in turns: {gains})\n"
            f"            the network by itself, passes of {own}    {costs[2]}   of {shared}           {costs[3]}",
            flush=True,
        )


class Nothing(torch.nn.Module):
    """A network that takes no time."""


def report_own_cost(samplers: int, steps: int, repeat: int) -> None:
    print(f"\nthe loop itself, {samplers} samplers of {steps} steps at a time, two rows of 64 px each: CPU a pass")
    for size in (2, 16):
        found = []
        for _ in range(repeat):
            loop = PassLoop(CPU)
            call = ForwardCall("n", Nothing(), lambda module, stacked, common, ragged: {"out": stacked["x"]})
            asked = [[Row({"x": torch.zeros(4, 8, 8), "time": torch.tensor(1.0)})] * 2 for _ in range(samplers)]
            whole = cost_of_row(loop, call, asked, steps, size, at_once=True) * 2 * samplers * steps
            passes = loop.counts.passes.total()
            filled = (asked[0] * size)[:size]
            began = time.process_time()
            for _ in range(passes):
                answer = forward(call, filled, CPU, lambda: False)
                _ = [{name: each[index] for name, each in answer.items()} for index in range(size)]
            tensors = time.process_time() - began
            found.append((1000 * (whole - tensors) / passes, 1000 * whole / passes, passes))
        own, whole, passes = min(found)
        print(
            f"  passes of {size:2}: {own:5.3f} ms of the loop's own, {whole:5.3f} ms in all ({passes} passes)",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", type=int, choices=(1, 2), help="one of them only")
    parser.add_argument("--side", type=int, nargs="+", default=[16, 32, 64])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument(
        "--steps",
        type=int,
        default=4,
        help="of the samplers that share; with the first one they do not know each other",
    )
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    print(
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, load {load:.0f} at the start, torch {torch.__version__}"
    )
    if chosen.part in (None, 2):
        report_own_cost(16, 50, chosen.repeat)
    if chosen.part in (None, 1):
        report_large(chosen.side, chosen.repeat, getattr(torch, chosen.dtype), chosen.steps)


if __name__ == "__main__":
    main()
