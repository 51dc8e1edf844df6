"""Descriptions: node types, models, the machine, this server."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from aiohttp import web

import graphflow
from graphflow import Problem, Registry, Settings
from graphflow.spi import describe, describe_all

from ..http import strict_json
from ..http.answers import answer, answer_made
from ..http.bodies import read_query
from ..http.paths import entries, open_file
from ..http.policies import READ
from ..http.refusal import RequestRefused
from ..http.route import Route
from ..protocol.requests import NameQuery
from ..state import STATE, ServerState
from ..worker import WorkerStatus
from . import pages

__all__ = ["ROUTES", "features"]

SPOKEN = "0.3.64"
"""The version of ComfyUI's server whose protocol this is."""
MODEL_INPUTS = {
    "checkpoints": ("CheckpointLoaderSimple", "ckpt_name"),
    "diffusers": ("DiffusersLoader", "model_path"),
    "vae": ("VAELoader", "vae_name"),
    "loras": ("LoraLoader", "lora_name"),
    "controlnet": ("ControlNetLoader", "control_net_name"),
    "upscale_models": ("UpscaleModelLoader", "model_name"),
    "clip_vision": ("CLIPVisionLoader", "clip_name"),
    "text_encoders": ("CLIPLoader", "clip_name"),
    "diffusion_models": ("UNETLoader", "unet_name"),
}
"""The input that chooses among the models of a folder: its choices are listed."""
ENDINGS = (".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".sft")
LARGEST_HEADER = 100 << 20


# -- node types ------------------------------------------------------------------------------------------------------


async def object_info(request: web.Request) -> web.Response:
    """All node types, as the editor and the clients of ComfyUI read them."""
    engine = request.app[STATE].engine
    return await answer_made(lambda: describe_all(engine.registry, engine.settings))


async def object_info_one(request: web.Request) -> web.Response:
    engine = request.app[STATE].engine
    kind = engine.registry.get(request.match_info["name"])
    if kind is None:
        return answer({})
    return await answer_made(lambda: {kind.name: describe(kind, engine.settings)})


async def node_help(request: web.Request) -> web.Response:
    """The help of a node type as Markdown, made from the declaration of the type."""
    name = request.match_info["name"]
    kind = request.app[STATE].engine.registry.get(name)
    if kind is None:
        raise RequestRefused(404, Problem("no_node_type", "there is no such node type"))
    rows = [
        f"- **{item.name}** ({item.type})" + (f": {item.help}" if item.help else "") for item in kind.inputs.values()
    ]
    text = "\n".join(
        [
            f"# {kind.display_name}",
            "",
            kind.help,
            "",
            "## Inputs",
            "",
            *rows,
            "",
            "## Outputs",
            "",
            *[f"- **{out.name}** ({out.type})" for out in kind.outputs],
            "",
        ]
    )
    return web.Response(text=text, content_type="text/markdown")


# -- models ----------------------------------------------------------------------------------------------------------


def folder_types(registry: Registry, settings: Settings) -> list[str]:
    found = {name for name, (kind, _) in MODEL_INPUTS.items() if kind in registry}
    for root in settings.models:
        if root.is_dir():
            found |= {item.name for item in root.iterdir() if item.is_dir() and not item.name.startswith(".")}
    return sorted(found | {"embeddings"})


def models_of(registry: Registry, settings: Settings, folder: str) -> list[str]:
    kind, name = MODEL_INPUTS.get(folder, ("", ""))
    item = registry[kind].inputs.get(name) if kind in registry else None
    if item is not None and item.choice is not None:
        return list(item.choice.names(settings))
    return sorted({name for name, _, _ in _model_files(settings, folder)})


def _model_files(settings: Settings, folder: str) -> list[tuple[str, int, os.stat_result]]:
    """Name, number of the root and state of each model file of a folder."""
    found = []
    for index, root in enumerate(settings.models):
        try:
            listed = entries(root / folder, recurse=True)
        except (FileNotFoundError, NotADirectoryError):
            continue
        found += [(name, index, state) for name, state in listed if name.lower().endswith(ENDINGS)]
    return found


def _known_folder(request: web.Request) -> str:
    engine, name = request.app[STATE].engine, request.match_info["folder"]
    if name not in folder_types(engine.registry, engine.settings):
        raise RequestRefused(404, Problem("no_folder", "there is no such folder of models"))
    return name


async def model_folders(request: web.Request) -> web.Response:
    engine = request.app[STATE].engine
    return answer(await asyncio.to_thread(folder_types, engine.registry, engine.settings))


async def models(request: web.Request) -> web.Response:
    engine, name = request.app[STATE].engine, _known_folder(request)
    return answer(await asyncio.to_thread(models_of, engine.registry, engine.settings, name))


async def embeddings(request: web.Request) -> web.Response:
    engine = request.app[STATE].engine
    names = await asyncio.to_thread(models_of, engine.registry, engine.settings, "embeddings")
    return answer([name.rpartition(".")[0] or name for name in names])


async def experiment_models(request: web.Request) -> web.Response:
    engine = request.app[STATE].engine
    names = await asyncio.to_thread(folder_types, engine.registry, engine.settings)
    return answer([{"name": name, "folders": [name]} for name in names])


async def experiment_models_of(request: web.Request) -> web.Response:
    engine, name = request.app[STATE].engine, _known_folder(request)

    def listed() -> list[dict[str, Any]]:
        files = {item: (index, state) for item, index, state in reversed(_model_files(engine.settings, name))}
        rows = []
        for item in models_of(engine.registry, engine.settings, name):
            row: dict[str, Any] = {"name": item, "pathIndex": 0}
            if item in files:
                index, state = files[item]
                row |= {
                    "pathIndex": index,
                    "modified": state.st_mtime,
                    "created": state.st_ctime,
                    "size": state.st_size,
                }
            rows.append(row)
        return rows

    return answer(await asyncio.to_thread(listed))


async def model_preview(request: web.Request) -> web.Response:
    raise RequestRefused(404, Problem("no_preview", "there is no preview of this model"))


async def view_metadata(request: web.Request) -> web.Response:
    """The metadata in the header of a safetensors file."""
    settings, folder = request.app[STATE].engine.settings, _known_folder(request)
    name = read_query(request, NameQuery).filename

    def read() -> Any:
        for root in settings.models:
            try:
                with open_file(root / folder, name) as file:
                    size = int.from_bytes(file.read(8), "little")
                    if not name.endswith(".safetensors") or not 2 <= size <= LARGEST_HEADER:
                        return None
                    return strict_json.loads(file.read(size)).get("__metadata__")
            except (FileNotFoundError, NotADirectoryError, PermissionError):
                continue
            except (ValueError, AttributeError):
                return None
        return None

    found = await asyncio.to_thread(read)
    if not isinstance(found, dict):
        raise RequestRefused(404, Problem("no_metadata", "there is no such file, or it has no metadata"))
    return answer(found)


# -- the machine -----------------------------------------------------------------------------------------------------


def features(state: ServerState) -> dict[str, Any]:
    return {
        "supports_preview_metadata": True,
        "max_upload_size": state.options.limits.upload,
        "editor": pages.editor_folder() is not None,
    }


async def get_features(request: web.Request) -> web.Response:
    return answer(features(request.app[STATE]))


async def system_stats(request: web.Request) -> web.Response:
    state = request.app[STATE]
    worker = state.queue.worker
    return await answer_made(lambda: {**_stats(state.engine.settings, worker.devices), "models": list(worker.models)})


def _stats(settings: Settings, accelerators: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The accelerators as the worker process sees them; while it has not used any, as the system does."""
    total, free = _memory()
    devices = [
        {**item, "torch_vram_total": item["vram_total"], "torch_vram_free": item["vram_free"]} for item in accelerators
    ]
    return {
        "system": {
            "os": os.name,
            "ram_total": total,
            "ram_free": free,
            "processor": _processor(),
            "comfyui_version": SPOKEN,
            "graphflow_version": graphflow.__version__,
            "required_frontend_version": _version("comfyui-frontend-package"),
            "installed_templates_version": None,
            "required_templates_version": None,
            "python_version": f"{platform.python_version()} {sys.implementation.name}",
            "pytorch_version": _version("torch") or "",
            "embedded_python": False,
            "argv": ["graphflow", "serve"],
        },
        "devices": devices or [_device(settings.devices[0], total, free)],
    }


def _device(kind: str, total: int, free: int) -> dict[str, Any]:
    name = kind
    program = shutil.which("nvidia-smi") if kind.startswith("cuda") else None
    if program is not None:
        asked = [program, "--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits"]
        try:
            line = subprocess.run(asked, capture_output=True, text=True, timeout=5, check=True).stdout.splitlines()[0]
            name, total_mib, free_mib = (part.strip() for part in line.split(","))
            total, free = int(total_mib) << 20, int(free_mib) << 20
        except (OSError, subprocess.SubprocessError, ValueError, IndexError):
            total = free = 0
    return {
        "name": name,
        "type": kind,
        "index": None if kind == "cpu" else 0,
        "vram_total": total,
        "vram_free": free,
        "torch_vram_total": total,
        "torch_vram_free": free,
    }


@cache
def _processor() -> str:
    """The name of the processor, where the system has a name for it."""
    with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory() -> tuple[int, int]:
    """Bytes of main memory: all, and what a program could get."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            lines = dict(line.split(":", 1) for line in file)
        total, available = (int(lines[name].split()[0]) << 10 for name in ("MemTotal", "MemAvailable"))
        return total, available
    except (OSError, KeyError, ValueError):
        size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return size, size


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


async def metrics(request: web.Request) -> web.Response:
    state = request.app[STATE]
    state.metrics.worker_memory.set(state.queue.worker.rss)
    state.metrics.worker_deaths.set(state.queue.worker.deaths)
    state.metrics.take_workers(
        (status.name, len(status.prompts), status.silent, _held(status)) for status in state.queue.workers
    )
    return web.Response(body=state.metrics.text(), headers={"Content-Type": "text/plain; version=0.0.4"})


def _held(status: WorkerStatus) -> Counter[str]:
    """Device -> bytes of models."""
    found: Counter[str] = Counter()
    for model in status.models:
        found[model["device"]] += model["bytes"]
    return found


ROUTES = (
    Route("GET", "/object_info", object_info, READ, "All node types", answer=dict[str, Any]),
    Route("GET", "/object_info/{name}", object_info_one, READ, "One node type", answer=dict[str, Any]),
    Route(
        "GET", "/docs/{name}/{language}", node_help, READ, "Help of a node type", produces="text/markdown", twin=False
    ),
    Route("GET", "/models", model_folders, READ, "Folders of models", answer=list[str]),
    Route("GET", "/models/{folder}", models, READ, "Models of a folder", answer=list[str]),
    Route("GET", "/embeddings", embeddings, READ, "Embeddings, without their endings", answer=list[str]),
    Route("GET", "/experiment/models", experiment_models, READ, "Folders of models", answer=list[dict[str, Any]]),
    Route(
        "GET",
        "/experiment/models/{folder}",
        experiment_models_of,
        READ,
        "Models of a folder, with their files",
        answer=list[dict[str, Any]],
    ),
    Route(
        "GET",
        "/experiment/models/preview/{folder}/{index}/{name:.+}",
        model_preview,
        READ,
        "An image of a model",
        statuses=(),
    ),
    Route(
        "GET",
        "/view_metadata/{folder}",
        view_metadata,
        READ,
        "Metadata of a model file",
        query=NameQuery,
        answer=dict[str, Any],
    ),
    Route("GET", "/features", get_features, READ, "What this server can do", answer=dict[str, Any]),
    Route("GET", "/system_stats", system_stats, READ, "The machine", answer=dict[str, Any]),
    Route("GET", "/metrics", metrics, READ, "Numbers for Prometheus", produces="text/plain", twin=False),
)
