"""Time and memory of loading a model of the size of Stable Diffusion 1.5 (1.07e9 weights):
`python -m benchmarks.loading`.

Writes files of random weights in the layout of real checkpoints into the user's cache folder once: float16 (2.1 GB),
and fp8 (1.1 GB), whose matrices stay packed in memory. Each number format is loaded in a process of its own; `peak` is
the largest resident memory beyond that of the imported libraries, `ratio` that to the bytes of the weights in memory;
`unpack s` is what unpacking all packed weights once costs, as each pass of the networks does layer by layer.
The file is in the page cache, so no disk is measured.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import struct
import subprocess
import sys
import time
from pathlib import Path

from platformdirs import user_cache_path

HERE = Path(__file__).parent
FORMATS = ("float32", "bfloat16", "float16")
STORED = ("F16", "F8_E4M3")
"""Number formats of the files, as safetensors names them; of the second for matrices and kernels alone."""


def make_file(path: Path, stored: str) -> None:
    """The names and shapes of Stable Diffusion 1.5, with numbers of a normal distribution."""
    import torch

    shapes = json.loads((HERE / "parity" / "shapes.json").read_text())
    entries, at = {}, 0
    for name, shape in shapes.items():
        dtype = stored if len(shape) > 1 else "F16"
        size = (2 if dtype == "F16" else 1) * math.prod(shape)
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    header = json.dumps(entries).encode()
    header += b" " * (-len(header) % 8)
    numbers = (torch.randn(1 << 24) * 0.02).half()
    block = numbers.numpy().tobytes() if stored == "F16" else numbers.to(torch.float8_e4m3fn).view(torch.uint8)
    block = block if isinstance(block, bytes) else block.numpy().tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        while at > 0:
            file.write(block[:at])
            at -= len(block)
    part.rename(path)


def load(path: Path, format: str) -> None:
    """Loads all parts and prints what it took, as JSON."""
    import torch
    from graphflow_nodes.families.kits import clip_network, kl_vae_network, unet_network  # noqa: F401
    from graphflow_nodes.families.opened import open_model
    from graphflow_nodes.files.load import load_part
    from graphflow_nodes.files.packed import Packed

    import graphflow as gf

    with gf.Engine() as engine:
        opened = open_model(path, engine.settings)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    held, seconds = [], {}
    for handle, part in ((opened.clip, "text.l"), (opened.model, "denoiser"), (opened.vae, "vae")):
        began = time.perf_counter()
        held.append(load_part(handle, part, getattr(torch, format)))
        seconds[part] = time.perf_counter() - began
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10) - before
    unpacking = time.process_time()
    for module in held:
        for each in module.modules():
            if isinstance(each, Packed):
                each.unpacked()
    unpacking = time.process_time() - unpacking
    weights = sum(weight.nbytes for module in held for weight in module.state_dict().values())
    print(json.dumps({"peak": peak, "weights": weights, "seconds": seconds, "unpack": unpacking}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = user_cache_path("graphflow") / "benchmarks" / "models"
    parser.add_argument("--folder", type=Path, default=default, help="where the files are, or are to be written")
    parser.add_argument("--load", nargs=2, metavar=("FILE", "FORMAT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.load:
        load(Path(options.load[0]), options.load[1])
        return
    print(
        f"{'file':8} {'file GB':>8} {'format':10} {'weights GB':>11} {'peak GB':>8} {'ratio':>6} {'text s':>7} "
        f"{'U-Net s':>8} {'VAE s':>6} {'unpack s':>9}"
    )
    for stored in STORED:
        path = options.folder / f"loading_{stored.lower()}.safetensors"
        if not path.exists():
            make_file(path, stored)
        for format in FORMATS:
            call = [sys.executable, "-m", "benchmarks.loading", "--load", str(path), format]
            found = json.loads(subprocess.run(call, check=True, capture_output=True, text=True).stdout)
            weights, peak, seconds = found["weights"], found["peak"], found["seconds"]
            print(
                f"{stored:8} {path.stat().st_size / 1e9:8.2f} {format:10} {weights / 1e9:11.2f} {peak / 1e9:8.2f} "
                f"{peak / weights:6.2f} {seconds['text.l']:7.1f} {seconds['denoiser']:8.1f} {seconds['vae']:6.1f} "
                f"{found['unpack']:9.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
