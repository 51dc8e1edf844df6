"""The same workflows, weights and seeds as a reference engine's: `python -m benchmarks.reference --reference DIR`.

DIR holds groups of cases (`sdxl/workflow/*.json`, `latent/`, `png/`, `manifest.json`), `text/` (prompts with tokens,
weights and parts of embeddings), `inside/` (what went into and came out of bare networks) and
`weights/make_weights.py`, which writes the made-up models into --models. Prints how far each latent is from the
reference in standard deviations of it: the gate is 1e-4, or five times the noise that was measured of the case itself.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from platformdirs import user_cache_path
from safetensors.torch import load_file

import graphflow as gf

GATE = 1e-4
FILES = {"sdxl": "sdxl_s", "sd2": "sd2_v_s"}
"""Families of `text/text_families.json` that run -> their checkpoint."""
INSIDE = {"sdxl": "sdxl_s", "sd2_v": "sd2_v_s"}


def apart(got: torch.Tensor, want: torch.Tensor) -> float:
    """The largest difference, in standard deviations of the reference; infinite where the shapes differ."""
    if got.shape != want.shape:
        return float("inf")
    difference = float((got - want).abs().max())
    return difference / float(want.std()) if difference else 0.0


def make_weights(reference: Path, models: Path) -> None:
    """Those files that are missing."""
    script = reference / "weights" / "make_weights.py"
    listed = subprocess.run(
        [sys.executable, str(script), str(models), "--list"], check=True, capture_output=True, text=True
    )
    missing = [name for name in listed.stdout.split() if "/" in name and not (models / name).exists()]
    if missing:
        subprocess.run([sys.executable, str(script), str(models), *missing], check=True)
    vocabulary = reference / "tokenizers" / "t5"
    if vocabulary.is_dir() and not (models / "tokenizers" / "t5").exists():
        shutil.copytree(vocabulary, models / "tokenizers" / "t5")


class Checkpoint:
    """A made-up checkpoint with its networks in memory."""

    def __init__(self, models: Path, name: str) -> None:
        from graphflow_nodes.devices.use import open_device
        from graphflow_nodes.families.opened import open_model

        with gf.Engine(settings=gf.Settings(models=(models,), device="cpu")) as engine:
            self.device = open_device(engine.settings)
            self.opened = open_model(models / "checkpoints" / f"{name}.safetensors", engine.settings)
        self.models = models

    def encode(self, prompt: str, **options: Any) -> Any:
        from graphflow_nodes.families.text import encode_prompt
        from graphflow_nodes.files.embeddings import find_embedding
        from graphflow_nodes.files.folders import ModelFolders

        folders = ModelFolders([self.models])
        options["embeddings"] = lambda name: find_embedding(folders, name)
        (entry,) = encode_prompt(self.device, self.opened.clip, prompt, options)
        return entry


def text_rows(reference: Path, models: Path) -> list[tuple[str, float]]:
    """The worst of the prompts of each family. Prompts with an embedding that is missing are Problems here, by
    intent."""
    worst: dict[str, float] = {}
    skipped: Counter[str] = Counter()

    def compare(family: str, found: Checkpoint, case: dict[str, Any], wanted: dict[str, torch.Tensor]) -> None:
        try:
            entry = found.encode(case["text"])
        except gf.GraphFlowError:
            skipped[family] += 1
            return
        steps = [int(step) for step in re.findall(r"every (\d+)", case.get("crop", ""))]
        for name in (name for name in wanted if name.split(".")[0] == case["key"]):
            got = (entry.pooled if ".pooled" in name else entry.text)[None]
            if steps and got.dim() == 3:
                got = got[:, :: steps[0]]
            got = got[..., :: max(1, got.shape[-1] // wanted[name].shape[-1])]
            worst[family] = max(worst.get(family, 0.0), apart(got, wanted[name]))

    sd1, folder = Checkpoint(models, "sd15s"), reference / "text"
    wanted = load_file(folder / "text.safetensors")
    for case in json.loads((folder / "text.json").read_text()):
        compare("sd1", sd1, case, wanted)
    found: dict[str, Checkpoint] = {}
    wanted = load_file(folder / "text_families.safetensors")
    for case in json.loads((folder / "text_families.json").read_text()):
        family = case["family"]
        if family in FILES:
            checkpoint = found.setdefault(family, found.get(family) or Checkpoint(models, FILES[family]))
            compare(family, checkpoint, case, wanted)
    return [(f"text, {family} (left out: {skipped[family]})", one) for family, one in worst.items()]


def inside_rows(reference: Path, models: Path) -> list[tuple[str, float]]:
    """What the bare network gives for what went into it: one row for each call of each family."""
    from graphflow_nodes.files.load import load_part
    from graphflow_nodes.model.entry import Ask

    rows = []
    for name, file in INSIDE.items():
        wanted = load_file(reference / "inside" / f"{name}.safetensors")
        nodes = json.loads((reference / "inside" / f"{name}.json").read_text())
        checkpoint = Checkpoint(models, file)
        sampler = next(node["inputs"] for node in nodes.values() if node["class_type"].startswith("KSampler"))
        entries = []
        for side in ("negative", "positive"):
            inputs = {key: value for key, value in nodes[sampler[side][0]]["inputs"].items() if key != "clip"}
            renamed = {{"text_g": "text.g", "text_l": "text.l"}.get(key, key): value for key, value in inputs.items()}
            entries.append(checkpoint.encode(renamed.pop("text", ""), **renamed))
        model = checkpoint.opened.model
        net, unet = model.family.net, load_part(model, "denoiser", torch.float32)
        for call in sorted({key.split(".")[0] for key in wanted if key.endswith(".net.out")}):
            x, times = wanted[f"{call}.net.x"], wanted[f"{call}.net.timestep"]
            asked = []
            for index, entry in enumerate(entries):
                ask = Ask(x=x[index], sigma=0.0, to=0.0, time=float(times[index]), entry=entry)
                asked.append(net.row(model.config, ask, net.prepare(model.config, entry, tuple(x[index].shape))))
            stacked = {key: torch.stack([row.stacked[key] for row in asked]) for key in asked[0].stacked}
            out = net.forward(unet, stacked, asked[0].common, {})["out"]
            rows.append((f"network, {name}, call {call}", apart(out, wanted[f"{call}.net.out"])))
    return rows


def run_case(path: Path, models: Path, folder: Path) -> tuple[float, int]:
    """(how far the latent is from the reference, the largest difference of a pixel in 8-bit steps)."""
    group, inputs, output = path.parents[1], folder / "input", folder / path.stem
    settings = gf.Settings(output_dir=output, input_dir=inputs, temp_dir=output, models=(models,), device="cpu")
    with gf.Engine(settings=settings) as engine:
        result = engine.run(gf.Workflow.load(path))
    latent = load_file(next((output / "latents").glob("*.latent")))["latent_tensor"]
    difference = apart(latent, load_file(group / "latent" / f"{path.stem}.safetensors")["latent_tensor"])
    worst = 0
    images = [group / "png" / f"{path.stem}.png", group / "png" / f"{path.stem}_1.png"]
    for saved, reference in zip(result.images, [image for image in images if image.exists()], strict=False):
        got, want = (np.asarray(Image.open(one).convert("RGB"), np.int16) for one in (saved.path, reference))
        worst = max(worst, int(np.abs(got - want).max()))
    return difference, worst


def noise_of(case: Any) -> float:
    found = case.get("noise_floor") if isinstance(case, dict) else None
    found = found.get("latent_tensor") if isinstance(found, dict) else found
    return float(found) if isinstance(found, int | float) else 0.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = user_cache_path("graphflow") / "benchmarks" / "reference"
    parser.add_argument(
        "groups", nargs="*", default=["text", "inside", "sd2", "sdxl", "conditioning", "patches"], metavar="GROUP"
    )
    parser.add_argument("--reference", type=Path, required=True, help="the folder with the recorded cases")
    parser.add_argument(
        "--models", type=Path, default=default, help="where the made-up models are, or are to be written"
    )
    options = parser.parse_args()
    make_weights(options.reference, options.models)
    good, later = True, 0
    for name in options.groups:
        if name in ("text", "inside"):
            for title, difference in (text_rows if name == "text" else inside_rows)(options.reference, options.models):
                good &= difference <= GATE
                print(f"{title:46} {difference:9.1e}", flush=True)
            continue
        group, _, pattern = name.partition("/")
        stated = json.loads((options.reference / group / "manifest.json").read_text())
        cases = stated.get("cases", stated) if isinstance(stated, dict) else stated
        cases = cases if isinstance(cases, dict) else {case["name"]: case for case in cases}
        with tempfile.TemporaryDirectory() as made:
            inputs = Path(made) / "input"
            inputs.mkdir()
            for image in ("example.png", "example_input.png"):
                (inputs / image).write_bytes((options.reference / "example_input.png").read_bytes())
            for path in sorted((options.reference / group / "workflow").glob(f"{pattern or '*'}.json")):
                try:
                    difference, pixels = run_case(path, options.models, Path(made))
                except gf.GraphFlowError as error:
                    later += 1
                    print(f"{group}/{path.stem:40} refused: {error.problems[0].message[:60]}", flush=True)
                    continue
                except Exception as error:  # one case that fails must not hide the others
                    good = False
                    print(f"{group}/{path.stem:40} NOT HELD: {type(error).__name__}: {str(error)[:60]}", flush=True)
                    continue
                gate = max(GATE, 5 * noise_of(cases.get(path.stem)))
                holds = difference <= gate and pixels <= 1
                good &= holds
                print(f"{group}/{path.stem:40} {difference:9.1e} {pixels:3} {'' if holds else 'NOT HELD'}", flush=True)
    print(
        f"\ngate: {GATE:.0e} of the standard deviation, 1 of 255: {'held' if good else 'NOT HELD'}; {later} cases not "
        "yet"
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
