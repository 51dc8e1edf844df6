"""The pictures of README.md, drawn anew: `python docs/pictures.py` (after a change of the built-in model or of the drawing)."""

from __future__ import annotations

import tempfile
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

import graphflow as gf
from graphflow.draw import to_svg

IMAGES = Path(__file__).parent / "images"
WORKFLOW = Path(__file__).parents[1] / "workflows" / "text_to_image.json"
SIDE, GAP = 192, 8


def main() -> None:
    workflow = gf.Workflow.load(WORKFLOW)
    with tempfile.TemporaryDirectory() as folder, gf.Engine(settings=gf.Settings(output_dir=Path(folder))) as engine:
        paths = [image.path for image in engine.run(workflow).images]
        pictures = [Image.open(path).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC) for path in paths]
        with Image.open(paths[0]) as first:
            info = PngInfo()
            info.add_text("prompt", first.text["prompt"])  # type: ignore[attr-defined]
        (IMAGES / "text_to_image.svg").write_text(to_svg(workflow, engine.registry), encoding="utf-8")
    strip = Image.new("RGB", (len(pictures) * (SIDE + GAP) - GAP, SIDE), "white")
    for number, picture in enumerate(pictures):
        strip.paste(picture, (number * (SIDE + GAP), 0))
    strip.save(IMAGES / "demo.png", pnginfo=info, optimize=True)


if __name__ == "__main__":
    main()
