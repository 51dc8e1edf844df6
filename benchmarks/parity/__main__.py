"""The same workflow, weights and seed give the same picture as the reference engine: `python -m benchmarks.parity`.

Writes the made-up checkpoint (2.1 GB) into the user's cache folder once, then runs each case in float32 and prints how
far the latent is from the reference (in standard deviations of it; at most 1e-4) and the picture (in 8-bit steps).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from platformdirs import user_cache_path
from safetensors.torch import load_file

import graphflow as gf

HERE = Path(__file__).parent
NAME = "sd15_random.safetensors"
GATE = 1e-4


def make_checkpoint(models: Path) -> None:
    target = models / "checkpoints" / NAME
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_suffix(".part")
        subprocess.run([sys.executable, str(HERE / "make_checkpoint.py"), str(part)], check=True)
        part.rename(target)


def apart(got: torch.Tensor, want: torch.Tensor) -> float:
    """The largest difference, in standard deviations of the reference."""
    return float((got - want).abs().max() / want.std())


def inner_rows(models: Path) -> list[tuple[str, float]]:
    """Text embeddings, the U-Net's answers and the VAE by themselves."""
    from graphflow_nodes.devices.use import open_device
    from graphflow_nodes.devices.vae import decode, encode
    from graphflow_nodes.families.opened import open_model
    from graphflow_nodes.families.text import encode_prompt
    from graphflow_nodes.samplers.denoiser import denoiser
    from graphflow_nodes.samplers.guidance import CFG

    want = load_file(HERE / "steps.safetensors")
    settings = gf.Settings()
    opened, device = open_model(models / "checkpoints" / NAME, settings), open_device(settings)
    model, clip, vae = opened.model, opened.clip, opened.vae
    assert model is not None and clip is not None and vae is not None
    texts = json.loads((HERE / "workflow" / "euler__normal.json").read_text())
    ((positive,), (negative,)) = (encode_prompt(device, clip, texts[key]["inputs"]["text"], {}) for key in ("6", "7"))
    assert positive.text is not None and negative.text is not None and positive.pooled is not None
    rows = [
        ("text embedding, positive", apart(positive.text[None], want["cond_positive"])),
        ("text embedding, negative", apart(negative.text[None], want["cond_negative"])),
        ("text embedding, pooled", apart(positive.pooled[None], want["pooled_positive"])),
    ]
    for name, entry in (("cond", positive), ("uncond", negative)):
        for key in (k for k in want if k.startswith(f"unet_denoised_{name}__sigma")):
            sigma = torch.tensor(float(key.split("sigma")[1]))
            if key.endswith("14.6146"):
                sigma = model.prediction.table()[-1]
            x = want["noise"] * sigma
            with denoiser(device, CFG(model, ((entry,),)), x, sigma[None]) as ask:
                rows.append((f"U-Net, {name}, sigma {float(sigma):.2f}", apart(ask(x, sigma), want[key])))
    image = decode(device, vae, want["latent_euler_normal"])
    rows.append(("VAE decode", apart(image, want["image_euler_normal"])))
    rows.append(("VAE encode", apart(encode(device, vae, want["image_euler_normal"]), want["vae_encode_of_image"])))
    return rows


def case_row(case: dict, models: Path, folder: Path) -> tuple[str, float, int, float]:
    inputs, output = folder / "input", folder / case["name"]
    inputs.mkdir(exist_ok=True)
    (inputs / "example.png").write_bytes((HERE / "example_input.png").read_bytes())
    settings = gf.Settings(output_dir=output, input_dir=inputs, temp_dir=output, models=(models,))
    began = time.perf_counter()
    with gf.Engine(settings=settings) as engine:
        result = engine.run(gf.Workflow.load(HERE / case["workflow"]))
    seconds = time.perf_counter() - began
    latent = load_file(next((output / "latents").glob("*.latent")))["latent_tensor"]
    difference = apart(latent, load_file(HERE / case["latent"])["latent_tensor"])
    worst = 0
    for image, reference in zip(result.images, case["png"], strict=True):
        got, want = (np.asarray(Image.open(path).convert("RGB"), np.int16) for path in (image.path, HERE / reference))
        worst = max(worst, int(np.abs(got - want).max()))
    return case["name"], difference, worst, seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = user_cache_path("graphflow") / "benchmarks" / "models"
    parser.add_argument("--models", type=Path, default=default, help="where the checkpoint is, or is to be written")
    options = parser.parse_args()
    make_checkpoint(options.models)
    good = True
    print(f"{'inside euler/normal':36} {'difference / std':>17}")
    for name, difference in inner_rows(options.models):
        good &= difference <= GATE
        print(f"{name:36} {difference:17.1e}", flush=True)
    print(f"\n{'case':36} {'difference / std':>17} {'pixels of 255':>14} {'seconds':>8}")
    with tempfile.TemporaryDirectory() as folder:
        for case in json.loads((HERE / "manifest.json").read_text())["cases"]:
            name, difference, pixels, seconds = case_row(case, options.models, Path(folder))
            good &= difference <= GATE and pixels <= 1
            print(f"{name:36} {difference:17.1e} {pixels:14} {seconds:8.1f}", flush=True)
    print(f"\ngate: {GATE:.0e} of the standard deviation, 1 of 255: {'held' if good else 'NOT HELD'}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
