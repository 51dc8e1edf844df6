"""Trainings in tests: images with captions, small networks, and runs that end, are cancelled or are refused."""

import threading

import pytest
import torch
from PIL import Image

import graphflow as gf
from tests.nodes.architectures import UNET, VAE, write_architecture


def draw_things(folder, images, mark):
    """A square of black at `mark` on each of (size, colour, caption), with its caption beside it."""
    folder.mkdir(parents=True)
    for number, (size, colour, caption) in enumerate(images):
        drawn = Image.new("RGB", size, colour)
        drawn.paste("black", mark)
        drawn.save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(caption, encoding="utf-8")


def settings_of(root, folder, **more):
    """`root` holds models and inputs, `folder` gets what is written; states are kept at each step."""
    places = {"models": (root / "models",), "input_dir": root / "input"}
    return gf.Settings(
        device="cpu", **places, output_dir=folder / "out", temp_dir=folder / "temp", **{"checkpoint_every": 0, **more}
    )


def engine_of(settings, folder):
    return gf.Engine(settings=settings, cache=gf.Cache(folder))


def run(settings, folder, workflow, *nodes, on_event=None):
    """`workflow`: one, or its JSON."""
    wanted = gf.Workflow.from_json(workflow) if isinstance(workflow, dict) else workflow
    with engine_of(settings, folder) as engine:
        return engine.run(wanted, targets=list(nodes), on_event=on_event)


def steps_of(events, node="t"):
    return [event.step for event in events if isinstance(event, gf.Progress) and event.node == node]


def stopped(settings, folder, workflow, at, node="t"):
    """The steps that a run reports which is cancelled when it reports step `at`."""
    flag, events = threading.Event(), []

    def note(event):
        events.append(event)
        if steps_of([event], node) == [at]:
            flag.set()

    wanted = gf.Workflow.from_json(workflow) if isinstance(workflow, dict) else workflow
    with engine_of(settings, folder) as engine, pytest.raises(gf.Cancelled):
        engine.run(wanted, targets=[node], on_event=note, cancel=flag)
    return steps_of(events, node)


def wrong(settings, folder, workflow, *nodes):
    """The problems of a run that is refused or fails, in words."""
    with pytest.raises(gf.GraphFlowError) as caught:
        run(settings, folder, workflow, *(nodes or ("t",)))
    return " / ".join(f"{problem.input}: {problem.message}" for problem in caught.value.problems)


def stopped_and_resumed(settings, folder, document, at):
    """The outputs of `t` after a run that was cancelled at a step, and another one that went on."""
    stopped(settings, folder, document, at)
    return run(settings, folder, document, "t")["t"].outputs


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def networks_in(root):
    """Two architectures (`small`, `fine`), folders for results, and images of two things on white and black."""
    four = {"block_out_channels": [8] * 4, "down_block_types": ["DownEncoderBlock2D"] * 4}
    vae = {**VAE, **four, "up_block_types": ["UpDecoderBlock2D"] * 4}
    write_architecture(root / "models" / "checkpoints" / "small", unet={**UNET, "block_out_channels": [8, 16]}, vae=vae)
    write_architecture(root / "models" / "checkpoints" / "fine")
    (root / "models" / "embeddings").mkdir()
    (root / "models" / "controlnet").mkdir()
    for folder, paper in (("things", "white"), ("marks", "black")):
        (root / "input" / folder).mkdir(parents=True)
        for number, colour in enumerate(("red", "blue")):
            drawn = Image.new("RGB", (64, 64), paper)
            drawn.paste(colour, (8, 8, 40, 40))
            drawn.save(root / "input" / folder / f"{number}.png")
            (root / "input" / folder / f"{number}.txt").write_text(f"a {colour} *")
    return root
