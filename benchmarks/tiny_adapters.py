"""What the adapters of the built-in model do: `python -m benchmarks.tiny_adapters [NAME ...] [--grids FOLDER]`

| name | asked | right is |
|---|---|---|
| `image` | the IP-Adapter with a drawing as reference and an empty prompt | its thing on its background |
| `inpaint` | the middle of a drawing anew, by a prompt that names a thing | that thing on its background |
| `upscaler` | drawings of things that it never saw, half as large | mean PSNR against the drawing |

40 images each, one for each pair of thing and background that was held out of training. The judge is that of
`benchmarks.tiny_model`. Beside `inpaint` stands the built-in U-Net under the same mask, beside `upscaler` bicubic
interpolation; an image without a prompt and without a reference shows one of 20 things.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import graphflow as gf
from benchmarks.tiny_model import Asked, grid, seen
from training.data import HELD_OUT, THINGS, Sample, captions, draw, load_sprites, pairs
from training.train_upscaler import TARGET, Compact, decibels, made_pairs

WORKFLOWS = Path(__file__).parents[1] / "workflows"


@dataclass(frozen=True, slots=True)
class Case:
    workflow: gf.Workflow
    loader: str
    """The node that loads the drawing."""
    target: str
    """The node that has the image."""
    shown: Sample
    """By the drawing that the workflow loads."""
    wanted: Sample


def held_out() -> list[Sample]:
    return [sample for sample in pairs() if sample in HELD_OUT]


def other(names: tuple[str, ...], name: str, step: int) -> str:
    """Another of the names."""
    return names[(names.index(name) + step) % len(names)]


def by_image() -> Iterator[Case]:
    for seed, sample in enumerate(held_out()):
        workflow = gf.Workflow.load(WORKFLOWS / "ip_adapter.json")
        workflow = workflow.set("Empty Latent Image.batch_size", 1).set("KSampler.seed", seed)
        yield Case(workflow, "The Image to Follow", "VAE Decode", sample, sample)


def by_mask(own: bool) -> Iterator[Case]:
    """`own`: by the model for inpainting, else by the built-in U-Net."""
    for seed, sample in enumerate(held_out()):
        shown = Sample(other(tuple(THINGS), sample.thing, 7), sample.background)
        nodes = gf.Workflow.load(WORKFLOWS / "inpaint_model.json").to_json()
        (image,) = (key for key, node in nodes.items() if node["_meta"]["title"] == "Image")
        nodes[image] = {"class_type": "LoadImage", "inputs": {"image": ""}, "_meta": {"title": "Image"}}
        workflow = gf.Workflow.from_json(nodes).set("Positive Prompt.text", name_of(sample))
        for sampler in ("Draw inside the Mask", "The Same by the Built-in Model"):
            workflow = workflow.set(f"{sampler}.seed", seed)
        yield Case(workflow, "Image", "Inpainted Image" if own else "By the Built-in Model", shown, sample)


def name_of(sample: Sample) -> str:
    """`an owl`"""
    return captions(sample)[0].removesuffix(f" on a {sample.background} background")


def answers(cases: Iterable[Case], rng: random.Random) -> np.ndarray:
    """The images of cases: uint8 [N, 64, 64, 3]."""
    sprites, drawn = load_sprites(), []
    with tempfile.TemporaryDirectory() as folder:
        settings = gf.Settings(device="cpu", output_dir=Path(folder), input_dir=Path(folder))
        with gf.Engine(settings=settings) as engine:
            for number, case in enumerate(cases):
                name = f"{number}.png"
                Image.fromarray(draw(sprites, case.shown, rng)).save(Path(folder) / name)
                workflow = case.workflow.set(f"{case.loader}.image", name)
                found = engine.run(workflow, targets=[case.target])[case.target].outputs["IMAGE"][0]
                drawn.append((found * 255).round().to(torch.uint8).numpy())
    return np.stack(drawn)


def measured(name: str, cases: Iterator[Case], grids: Path) -> None:
    rng, asked = random.Random(4), list(cases)
    drawn = answers(asked, rng)
    found = seen(drawn)
    right = [
        (one.thing == case.wanted.thing, one.background == case.wanted.background)
        for one, case in zip(found, asked, strict=True)
    ]
    things, grounds, both = (
        sum(values) for values in ((a for a, _ in right), (b for _, b in right), (a and b for a, b in right))
    )
    print(f"{name:<28}thing {things:>3}   background {grounds:>3}   both {both:>3}   of {len(found)}", flush=True)
    grids.mkdir(parents=True, exist_ok=True)
    sheet = grid(drawn, [Asked(case.wanted, "", 0) for case in asked], found, columns=10)
    sheet.save(grids / f"{name.replace(', ', '_').replace(' ', '_')}.png")


def upscaler() -> None:
    from safetensors.torch import load_file

    network = Compact()
    network.load_state_dict({name: tensor.float() for name, tensor in load_file(TARGET).items()})
    own, cubic = decibels(network, made_pairs(40, 21, None, of_held_out=True))
    print(f"{'upscaler':<28}{own:.2f} dB   bicubic {cubic:.2f} dB", flush=True)


def main() -> None:
    names = ["image", "inpaint", "upscaler"]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[*names, []], default=names)
    parser.add_argument("--grids", type=Path, default=Path("output/tiny_adapters"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.names:
        if name == "upscaler":
            upscaler()
        elif name == "inpaint":
            measured("inpaint", by_mask(own=True), options.grids)
            measured("inpaint, built-in U-Net", by_mask(own=False), options.grids)
        else:
            measured("image", by_image(), options.grids)


if __name__ == "__main__":
    main()
