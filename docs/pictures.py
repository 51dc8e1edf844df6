"""The images of README.md and of diffusion.md and the thumbnails of the shipped workflows, made anew: `python -m
docs.pictures` (after a change of a built-in model, of a workflow or of the drawing). `python -m docs.pictures NAME ...`
makes those of these workflows alone."""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

import graphflow as gf
from graphflow.look.draw import to_svg
from training.scenes import BACKGROUNDS, THINGS

IMAGES = Path(__file__).parent / "images"
WORKFLOWS = Path(__file__).parents[1] / "workflows"
SHEETS = {"two_things": "demo", "text_to_image": "text_to_image"}
"""Workflow -> the image that shows its four results."""
EXAMPLE = WORKFLOWS.parent / "nodes" / "builtin" / "examples" / "graphflow-example.png"
SIDE, GAP = 192, 8
LARGEST_THUMBNAIL = 8 << 10
"""Bytes: all of them are part of the package."""
SEEN = (
    "forward_diffusion",
    "reverse_diffusion",
    "schedules",
    "attention",
    "vae_roundtrip",
    "latent_walk",
    "guidance_sweep",
    "negative_prompt",
    "seeds",
    "steps",
    "image_to_image",
    "inpaint",
    "outpaint",
    "lora_stack",
    "model_merge",
    "controlnet",
    "train_lora",
    "train_embedding",
    "train_vae",
    "hires_fix_upscaler",
    "ip_adapter",
    "inpaint_model",
)
"""Workflows whose images stand in diffusion.md or training.md, each under the name of its file."""
GROUNDS = tuple(BACKGROUNDS)
SHOWN_IN_A_STRIP = ("after", "two_halves", "outpainted")
"""Results that the docs show beside what they were made of, and not alone."""
ASKED = (
    "red apple on pink",
    "green apple on yellow",
    "banana on blue",
    "orange on green",
    "grapes on white",
    "pizza on purple",
    "cat on black",
    "frog on gray",
    "panda on pink",
    "owl on blue",
    "sun on blue",
    "moon on green",
    "cactus on white",
    "red heart on purple",
    "blue heart on black",
    "rocket on gray",
    "guitar on pink",
    "ghost on yellow",
    "crown on blue",
    "octopus on green",
)
"""Every thing that `graphflow-tiny` draws."""


def main() -> None:
    for name, image in SHEETS.items():
        with (
            tempfile.TemporaryDirectory() as folder,
            gf.Engine(settings=gf.Settings(output_dir=Path(folder))) as engine,
        ):
            workflow = gf.Workflow.load(WORKFLOWS / f"{name}.json")
            paths = [image.path for image in engine.run(workflow).images]
            drawn = [Image.open(path).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC) for path in paths]
            with Image.open(paths[0]) as first:
                info = PngInfo()
                info.add_text("prompt", first.text["prompt"])  # type: ignore[attr-defined]
            if name == "text_to_image":
                (IMAGES / "text_to_image.svg").write_text(to_svg(workflow, engine.registry), encoding="utf-8")
        sheet(drawn, len(drawn), GAP).save(IMAGES / f"{image}.png", pnginfo=info, optimize=True)
    sheet(things("text_to_image", ASKED), 10, GAP // 2).save(IMAGES / "graphflow-tiny.png", optimize=True)
    scenes = [f"{thing} on {GROUNDS[at % len(GROUNDS)]}" for at, thing in enumerate(THINGS)]
    sheet(things("two_things", scenes), 11, 0).save(IMAGES / "graphflow-scenes.webp", quality=85)
    EXAMPLE.parent.mkdir(exist_ok=True)
    example().save(EXAMPLE, optimize=True)
    workflows(sorted(path.stem for path in WORKFLOWS.glob("*.json")))


def workflows(names: Sequence[str]) -> None:
    """The thumbnails and the images in the docs of workflows that run with the built-in model. A workflow that needs
    other models gets none: nobody who has only this package could make it."""
    for path in (WORKFLOWS / f"{name}.json" for name in names):
        with tempfile.TemporaryDirectory() as folder:
            first_apple().save(Path(folder) / "picture.png")
            settings = gf.Settings(output_dir=Path(folder) / "output", input_dir=Path(folder))
            with gf.Engine(settings=settings) as engine:
                workflow = gf.Workflow.load(path)
                if engine.check(workflow).problems:
                    continue
                paths = [image.path for image in engine.run(workflow).images if image.path.suffix == ".png"]
                images = [Image.open(image).convert("RGB") for image in paths]
            if path.stem in SEEN:
                for image, file in zip(images, paths, strict=True):
                    shown = image if image.width > SIDE else image.resize((SIDE, SIDE * image.height // image.width))
                    name = file.name.removesuffix("_00001_.png") if len(images) > 1 else path.stem
                    if name in SHOWN_IN_A_STRIP:
                        continue
                    shown.quantize(256).save(IMAGES / f"{name}.png", optimize=True)
            # The last file is the result; several images of one size are a batch of it.
            alike = [image for image in images[-4:] if image.size == images[-1].size]
            whole = sheet(alike, 2, 0) if len(alike) == 4 else images[-1]
            path.with_suffix(".webp").write_bytes(small(whole))


def first_apple() -> Image.Image:
    """The image that some workflows start from."""
    with Image.open(IMAGES / "text_to_image.png") as apples:
        return apples.convert("RGB").crop((0, 0, SIDE, SIDE))


def small(image: Image.Image) -> bytes:
    """A WebP of at most the allowed size."""
    width, height = image.size
    scale = 2 * SIDE / max(width, height)
    image = image.resize((round(width * scale), round(height * scale)), Image.Resampling.BICUBIC)
    for quality in range(85, 0, -5):
        found = io.BytesIO()
        image.save(found, "WEBP", quality=quality, method=6)
        if len(found.getvalue()) <= LARGEST_THUMBNAIL:
            return found.getvalue()
    raise ValueError(f"an image of {image.size} does not fit into {LARGEST_THUMBNAIL} bytes")


def things(name: str, texts: Sequence[str]) -> list[Image.Image]:
    """An image of each text by a shipped workflow, in the model's own size."""
    found, workflow = [], gf.Workflow.load(WORKFLOWS / f"{name}.json")
    with tempfile.TemporaryDirectory() as folder, gf.Engine(settings=gf.Settings(output_dir=Path(folder))) as engine:
        for seed, text in enumerate(texts):
            asked = workflow.set("Positive Prompt.text", text).set("KSampler.seed", seed)
            (image,) = engine.run(asked.set("EmptyLatentImage.batch_size", 1)).images
            found.append(Image.open(image.path).convert("RGB"))
    return found


def example() -> Image.Image:
    """The shipped image that workflows start from: an apple, 256 x 256, drawn at four times the size."""
    drawn = Image.new("RGB", (1024, 1024), (64, 120, 216))
    draw = ImageDraw.Draw(drawn)
    for place, colour in ((0, (150, 24, 30)), (1, (214, 40, 46))):
        inset = 22 * place
        draw.ellipse((190 + inset, 330 + inset, 610 - inset, 860 - inset), colour)
        draw.ellipse((414 + inset, 330 + inset, 834 - inset, 860 - inset), colour)
    draw.rectangle((420, 400, 604, 820), (214, 40, 46))
    draw.ellipse((290, 420, 380, 560), (248, 150, 140))
    draw.line((512, 420, 540, 210), (92, 58, 30), 34)
    draw.ellipse((540, 190, 740, 300), (70, 160, 60))
    return drawn.resize((256, 256), Image.Resampling.LANCZOS)


def sheet(pictures: list[Image.Image], columns: int, gap: int) -> Image.Image:
    """Pictures of one size in rows, on white."""
    width, height = (side + gap for side in pictures[0].size)
    whole = Image.new("RGB", (columns * width - gap, -(-len(pictures) // columns) * height - gap), "white")
    for number, picture in enumerate(pictures):
        whole.paste(picture, (number % columns * width, number // columns * height))
    return whole


if __name__ == "__main__":
    workflows(sys.argv[1:]) if len(sys.argv) > 1 else main()
