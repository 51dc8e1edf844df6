"""How many nodes of published packs load and run: `python -m benchmarks.packs --folder DIR [--install] [-o FILE]`.

DIR has one folder for each pack, with what `pip install --no-deps --target` puts there; `--install` fills it. Each pack
is loaded in a process of its own, without network. A node *loads* if its declarations can be read. It is *tried* with
the defaults of its widgets where the built-in model, an empty image, a mask, a latent and a conditioning can be its
other inputs, and *runs* if it gives its outputs. Of a node that does not, the first line of its problem is shown.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PUBLISHED = (
    "comfyui-ib-customnodes==0.2.3",
    "comfyui-arc-save==1.1.1",
    "kumiho-comfyui==1.0.2",
    "comfyui-tooling-nodes==0.1.0",
    "comfyui-easynodes==1.2.7",
    "comfyui-siberianodes==1.0.0",
    "comfyui-fluxflow==0.8.0",
    "comfyui-orbitquant==0.9.0",
    "gguf-node==0.2.8",
    "bizyair-cloudberry==0.3.2",
    "bizytrd==0.1.24",
    "comfyui-nitra==1.0.54",
    "mseep-comfyui-llm-party==1.4.1",
    "zmongo-nodes==0.1.3",
    "yors-comfyui-node-as-x-type==0.2.1",
    "seconohe==1.0.6",
)
NEEDED = (
    "ansi2html",
    "bizytrd",
    "colorama",
    "coloredlogs",
    "distro",
    "einops",
    "fluxflow",
    "h11",
    "httpcore",
    "httpx",
    "humanfriendly",
    "jiter",
    "keyring",
    "ollama",
    "openai",
    "opencv-python-headless",
    "orbitquant",
    "pydantic-settings",
    "python-dotenv",
    "sniffio",
    "websockets",
)
"""Libraries that packs import and this environment may lack."""
SECONDS = 300
"""For all nodes of a pack."""
LIBRARIES = "_libraries"
NOWHERE = "http://127.0.0.1:9"
"""A proxy that nobody serves: what a pack asks of the web fails at once."""
SOURCES = {
    "MODEL": ("load", 0),
    "CLIP": ("load", 1),
    "VAE": ("load", 2),
    "IMAGE": ("image", 0),
    "MASK": ("mask", 0),
    "LATENT": ("latent", 0),
    "CONDITIONING": ("text", 0),
    "SAMPLER": ("sampler", 0),
    "SIGMAS": ("sigmas", 0),
    "NOISE": ("noise", 0),
    "GUIDER": ("guider", 0),
}
AROUND = {
    "load": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "graphflow-tiny"}},
    "image": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 8421504}},
    "mask": {"class_type": "SolidMask", "inputs": {"value": 1.0, "width": 64, "height": 64}},
    "latent": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
    "text": {"class_type": "CLIPTextEncode", "inputs": {"text": "a red apple", "clip": ["load", 1]}},
    "sampler": {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "euler"}},
    "sigmas": {
        "class_type": "BasicScheduler",
        "inputs": {"model": ["load", 0], "scheduler": "normal", "steps": 2, "denoise": 1.0},
    },
    "noise": {"class_type": "RandomNoise", "inputs": {"noise_seed": 1}},
    "guider": {"class_type": "BasicGuider", "inputs": {"model": ["load", 0], "conditioning": ["text", 0]}},
}


def install(folder: Path) -> None:
    """Each pack into a folder of its own, and the libraries that packs need into one for all."""
    wanted = {requirement.partition("==")[0]: [requirement] for requirement in PUBLISHED} | {LIBRARIES: list(NEEDED)}
    for name, requirements in wanted.items():
        if not (folder / name).exists():
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder / name)]
            subprocess.run([*command, *requirements], check=False)


def packs_in(folder: Path) -> Iterator[Path]:
    """The modules of an installed distribution that may be packs."""
    if (folder / "__init__.py").is_file():
        yield folder
        return
    for path in sorted(folder.iterdir()):
        if path.suffix == ".py" or (path / "__init__.py").is_file():
            yield path
        elif path.is_dir() and not path.name.endswith((".dist-info", "__pycache__")):
            yield from sorted(one for one in path.glob("*.py") if one.name != "__init__.py")


def measure(paths: list[Path]) -> dict[str, Any]:
    """In a process of its own: what the packs at these paths are good for."""
    import graphflow as gf
    from graphflow.foreign import load_pack

    registry = gf.Registry.installed()
    found: dict[str, Any] = {"loads": 0, "tried": 0, "runs": 0, "failed": [], "problems": []}
    types: dict[str, Any] = {}
    for path in paths:
        pack = load_pack(path)
        if not pack.types and path.is_dir():  # a package whose modules are packs
            inner = [one for one in sorted(path.glob("*.py")) if one.name != "__init__.py"]
            for each in [load_pack(one) for one in inner if b"NODE_CLASS_MAPPINGS" in one.read_bytes()]:
                pack.types.update(each.types)
                pack.problems += each.problems
        types |= pack.types
        found["problems"] += [problem.message.partition("\n")[0][:200] for problem in pack.problems]
    registry.update(types)
    found["loads"] = len(types)
    work = Path.cwd()
    (work / "input").mkdir(exist_ok=True)
    settings = gf.Settings(output_dir=work / "output", input_dir=work / "input", temp_dir=work / "temp", device="cpu")
    with gf.Engine(registry, settings) as engine:
        for name, kind in types.items():
            inputs = given(kind, settings)
            if inputs is None:
                continue
            found["tried"] += 1
            nodes = AROUND | {"it": {"class_type": name, "inputs": inputs}}
            try:
                engine.run(gf.Workflow.from_json(nodes), targets=["it"])
                found["runs"] += 1
            except Exception as error:
                found["failed"].append(f"{name}: {str(error).partition(chr(10))[0][:160]}")
            print(json.dumps(found), flush=True)  # the last line counts, also where a node hangs
    print(json.dumps(found), flush=True)
    return found


def given(kind: Any, settings: Any) -> dict[str, Any] | None:
    """Inputs to try a node with; None where something is wanted that nothing here gives."""
    from graphflow.spi import describe

    inputs: dict[str, Any] = {}
    for name, spec in describe(kind, settings)["input"].get("required", {}).items():
        what, options = spec[0], spec[1] if len(spec) > 1 else {}
        if isinstance(what, str) and what in SOURCES:
            inputs[name] = list(SOURCES[what])
        elif what == "*":
            inputs[name] = ["image", 0]
        elif isinstance(what, list) or what == "COMBO":
            choices = what if isinstance(what, list) else options.get("options", [])
            if not choices:
                return None
            inputs[name] = options.get("default", choices[0])
        elif what in PLAIN:
            inputs[name] = options.get("default", max(PLAIN[what], options["min"]) if "min" in options else PLAIN[what])
        else:
            return None
    return inputs


PLAIN: dict[str, Any] = {"INT": 1, "FLOAT": 1.0, "STRING": "a text", "BOOLEAN": False}


def in_a_process(folder: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as work:
        paths = [str(path.resolve()) for path in packs_in(folder)]
        proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), NOWHERE)
        path = os.pathsep.join(map(str, (Path.cwd(), folder.resolve(), folder.resolve().parent / LIBRARIES)))
        environment = {**os.environ, **proxies, "HOME": work, "PIP_NO_INDEX": "1", "PYTHONPATH": path}
        command = [sys.executable, "-m", "benchmarks.packs", "--measure", *paths]
        done = subprocess.Popen(
            command, cwd=work, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            out, errors = done.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            done.kill()
            out, errors = done.communicate()
            errors += "\ntimed out"
    lines = [line for line in out.splitlines() if line.startswith('{"loads"')]
    if lines:
        found: dict[str, Any] = json.loads(lines[-1])
        return found
    last = (errors.strip().splitlines() or ["no answer"])[-1][:200]
    return {"loads": 0, "tried": 0, "runs": 0, "failed": [], "problems": [last]}


def table(folder: Path) -> str:
    rows, notes = ["| pack | nodes that load | tried | run |", "|---|---|---|---|"], []
    total = [0, 0, 0]
    for each in sorted(path for path in folder.iterdir() if path.is_dir() and path.name != LIBRARIES):
        found = in_a_process(each)
        numbers = [found["loads"], found["tried"], found["runs"]]
        total = [one + other for one, other in zip(total, numbers, strict=True)]
        version = next((one.name.split("-")[1].removesuffix(".dist") for one in each.glob("*.dist-info")), "")
        rows.append(f"| {each.name} {version} | " + " | ".join(map(str, numbers)) + " |")
        print(rows[-1], flush=True)
        notes += [f"{each.name}: {text}" for text in (*found["problems"], *found["failed"])]
    rows.append("| all | " + " | ".join(map(str, total)) + " |")
    return "\n".join([*rows, "", "What did not load or run:", "", *notes, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--install", action="store_true")
    parser.add_argument("--measure", nargs="*", type=Path)
    parser.add_argument("-o", type=Path)
    options = parser.parse_args()
    if options.measure is not None:
        measure(options.measure)
        return
    if options.install:
        options.folder.mkdir(parents=True, exist_ok=True)
        install(options.folder)
    text = table(options.folder)
    print(text)
    if options.o is not None:
        options.o.write_text(text)


if __name__ == "__main__":
    main()
