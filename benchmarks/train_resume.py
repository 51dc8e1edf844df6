"""Kill -9 in the middle of trainings, and see that the LoRA is the one that would have been.

`python -m benchmarks.train_resume --kills 100`

A LoRA of the built-in model is trained once without interruption. Then, again and again, one process is killed when it
reports a step (each in turn, and at a random moment within the next one), and another goes on with what the first has
left in the cache: its file must have the same bytes, and at most one step may be done again. The processes are forks of
one that has loaded the libraries already. Encoded images and captions are made once, and each training begins with a
copy of the cache that holds them.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from threading import Timer

import graphflow_nodes.families.kits.clip_network
import graphflow_nodes.families.kits.kl_vae_network
import graphflow_nodes.families.kits.unet_network
import graphflow_nodes.families.stable_diffusion.text
import graphflow_nodes.files.load
import graphflow_nodes.library
import graphflow_nodes.training.loop  # noqa: F401
import torch

import graphflow as gf
from benchmarks.resume import in_a_process
from training.data import caption, draw, load_sprites, pairs

CASES = (("AdamW", "no"), ("Adafactor", "no"), ("Lion", "no"), ("AdamW", "fp16"))
"""Optimiser, and the number format of products: in fp16 the loss is scaled, and the scale is a part of the state."""


def workflow(folder: Path, steps: int, optimizer: str, precision: str) -> gf.Workflow:
    """Twelve images of two sizes, two that are held out, and a training with all that draws random numbers."""
    if not (folder / "input").exists():
        _draw(folder / "input" / "things", 0, 12)
        _draw(folder / "input" / "held", 12, 2)
    data = {"vae": ["m", 2], "clip": ["m", 1], "resolution": 32, "bucket_step": 8}
    options = {
        "steps": steps,
        "batch_size": 2,
        "rank": 4,
        "learning_rate": 1e-3,
        "optimizer": optimizer,
        "mixed_precision": precision,
        "ema_decay": 0.95,
        "gradient_accumulation_steps": 2,
        "caption_dropout": 0.2,
        "noise_offset": 0.1,
        "snr_gamma": 5.0,
        "lr_scheduler": "cosine",
        "lr_warmup_steps": 2,
        "validate_every": 5,
        "seed": 3,
    }
    return gf.Workflow.from_json(
        {
            "m": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "graphflow-tiny"}},
            "d": {"class_type": "TrainingFolder", "inputs": {**data, "folder": "things", "mirror": True}},
            "v": {"class_type": "TrainingFolder", "inputs": {**data, "folder": "held"}},
            "t": {
                "class_type": "TrainLora",
                "inputs": {"model": ["m", 0], "training_set": ["d", 0], "validation_set": ["v", 0], **options},
            },
            "s": {"class_type": "SaveLora", "inputs": {"lora": ["t", 0], "save_dtype": "float32"}},
        }
    )


def _draw(folder: Path, first: int, count: int) -> None:
    from PIL import Image

    folder.mkdir(parents=True)
    sprites, rng = load_sprites(), random.Random(first)
    for number, sample in enumerate(pairs()[first : first + count]):
        image = Image.fromarray(draw(sprites, sample, rng))
        (image.crop((0, 8, 64, 56)) if number % 3 == 0 else image).save(folder / f"{number:02}.png")
        (folder / f"{number:02}.txt").write_text(caption(sample, rng) or "nothing")


def prepare(wanted: gf.Workflow, cache: Path, inputs: Path) -> None:
    """Encode images and captions into a cache."""
    with gf.Engine(settings=gf.Settings(device="cpu", input_dir=inputs), cache=gf.Cache(cache)) as engine:
        engine.run(wanted, targets=["d", "v"])


def run(wanted: gf.Workflow, folder: Path, inputs: Path, kill_at: int = 0, later: float = 0.0) -> None:
    """Run it, keeping the file's tensors and the steps that it reports in the folder; it dies `later` seconds after its
    report of step `kill_at`."""
    settings = gf.Settings(
        device="cpu", input_dir=inputs, output_dir=folder / "output", checkpoint_every=0.0, metadata=False
    )
    steps: list[int] = []

    def note(event: gf.events.Event) -> None:
        if isinstance(event, gf.Progress) and event.node == "t":
            steps.append(event.step)
            (folder / "steps").write_text(" ".join(map(str, steps)))
            if kill_at and event.step == kill_at:
                if later:
                    Timer(later, os.kill, (os.getpid(), signal.SIGKILL)).start()
                else:
                    os.kill(os.getpid(), signal.SIGKILL)

    with gf.Engine(settings=settings, cache=gf.Cache(folder / "cache")) as engine:
        path = engine.run(wanted, on_event=note)["s"].paths[0]
    (folder / "lora").write_bytes(path.read_bytes())


def reported(folder: Path) -> list[int]:
    return [int(text) for text in (folder / "steps").read_text().split()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--steps", type=int, default=12)
    options = parser.parse_args()
    torch.set_num_threads(1)
    dice, began = random.Random(1), time.monotonic()
    done = same = repeated = 0
    with tempfile.TemporaryDirectory(prefix="graphflow-train-") as place:
        root = Path(place)
        expected: dict[tuple[str, str], bytes] = {}
        while done < options.kills:
            case = CASES[done % len(CASES)]
            name, wanted, inputs = " in ".join(case), workflow(root, options.steps, *case), root / "input"
            folder, prepared = root / "run", root / "prepared"
            if not prepared.exists() and in_a_process(lambda: prepare(wanted, prepared, inputs)) != 0:  # noqa: B023
                raise SystemExit("the data could not be prepared")

            def work(kill_at: int = 0, later: float = 0.0) -> Callable[[], None]:
                return lambda: run(wanted, folder, inputs, kill_at, later)  # noqa: B023

            if case not in expected:
                shutil.copytree(prepared, folder / "cache")
                if in_a_process(work()) != 0:
                    raise SystemExit(f"{name}: the training without interruption failed")
                expected[case] = (folder / "lora").read_bytes()
                shutil.rmtree(folder)
            shutil.copytree(prepared, folder / "cache")
            at = 1 + done // len(CASES) % (options.steps - 1)
            later = dice.uniform(0.0, 0.2) if done // len(CASES) % 2 else 0.0
            if in_a_process(work(at, later)) != -signal.SIGKILL:
                raise SystemExit(f"{name}, step {at}: the process was not killed")
            before = reported(folder)[-1]
            if in_a_process(work()) != 0:
                raise SystemExit(f"{name}, step {at}: the second process failed")
            repeated = max(repeated, before - reported(folder)[0])
            same += (folder / "lora").read_bytes() == expected[case]
            done += 1
            shutil.rmtree(folder)
            if done % len(CASES) == 0 or done == options.kills:
                print(f"{done} kills, {same} with the same bytes, at most {repeated} steps again", flush=True)
    print(f"{options.steps} steps, {', '.join(' in '.join(case) for case in CASES)}; {time.monotonic() - began:.0f} s")
    if same != done:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
