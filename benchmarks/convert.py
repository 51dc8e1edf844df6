"""Files of the editor: the whole template collection, and one file of 1,000 nodes. `python -m benchmarks.convert`"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

from graphflow import Engine, Workflow
from graphflow.formats.editor import from_workflow, is_editor_format, to_api
from graphflow.formats.object_info import read_all

OBJECT_INFO = Path(__file__).parents[1] / "tests" / "data" / "editor" / "object_info.json"


def templates() -> list[str]:
    """The texts of all templates (PyPI comfyui-workflow-templates-json), without the collection's own indices."""
    folder = files("comfyui_workflow_templates_json") / "templates"
    texts = [item.read_text(encoding="utf-8") for item in folder.iterdir() if item.name.endswith(".json")]
    return [text for text in texts if is_editor_format(json.loads(text))]


def large_file(count: int, engine: Engine) -> dict[str, Any]:
    """A file of `count` nodes of six types: samplers one after the other, each with texts of its own."""
    nodes: dict[str, Any] = {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "graphflow-tiny"}},
        "2": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
        "3": {"class_type": "VAEDecode", "inputs": {"samples": ["2", 0], "vae": ["1", 2]}},
        "4": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "large"}},
    }
    last = "2"
    for number in range(5, count - 1, 3):
        for key, text in ((number, "an apple"), (number + 1, "")):
            nodes[str(key)] = {"class_type": "CLIPTextEncode", "inputs": {"text": text, "clip": ["1", 1]}}
        nodes[str(number + 2)] = {
            "class_type": "KSampler",
            "inputs": {
                "seed": number,
                "steps": 4,
                "cfg": 7.0,
                "sampler_name": "euler",
                "scheduler": "normal",
                "denoise": 1.0,
                "model": ["1", 0],
                "positive": [str(number), 0],
                "negative": [str(number + 1), 0],
                "latent_image": [last, 0],
            },
        }
        last = str(number + 2)
    nodes["3"]["inputs"]["samples"] = [last, 0]
    return from_workflow(Workflow.from_json(nodes), engine.infos).data


def timed(work: Callable[[], Any], rounds: int) -> float:
    samples = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        samples.append(time.perf_counter() - began)
    return statistics.median(samples)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    texts = templates()
    infos = read_all(json.loads(OBJECT_INFO.read_text(encoding="utf-8")))
    engine = Engine()
    complete = sum(not to_api(json.loads(text), infos).problems for text in texts)

    def convert_all() -> None:
        for text in texts:
            to_api(json.loads(text), infos)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.json"
        data = large_file(1000, engine)
        path.write_text(json.dumps(data), encoding="utf-8")
        assert not engine.validate(engine.load(path))
        workflow = engine.load(path)
        rows = [
            (
                f"read and convert {len(texts)} templates ({complete} need no other node types)",
                timed(convert_all, rounds),
            ),
            (f"load an editor file of {len(data['nodes'])} nodes", timed(lambda: engine.load(path), rounds)),
            ("load and validate it", timed(lambda: engine.validate(engine.load(path)), rounds)),
            ("write it for the editor, laid out", timed(lambda: from_workflow(workflow, engine.infos), rounds)),
        ]
    print(f"{'':68} {'seconds':>8}")
    for name, seconds in rows:
        print(f"{name:68} {seconds:8.3f}")


if __name__ == "__main__":
    main()
