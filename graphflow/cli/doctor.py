"""`graphflow doctor`"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import platform
import shutil
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..cache import compiled_folder, default_folder
from ..problem import GraphFlowError, Problem
from ..registry import Registry
from ..settings import Settings
from ..version import installed_version
from .cache import readable
from .common import DONE, FAILED, add_folder_options, complain, settings

__all__ = ["configure", "run"]

MANY = 10
"""Names of models that are shown of each folder."""
LITTLE = 2 << 30
"""Free bytes below which a disk is reported."""
EXTRAS = {
    "editor": ("comfyui_frontend_package", "the web editor of graphflow serve"),
    "upscale": ("spandrel", "upscale models"),
    "heif": ("pillow_heif", "photos as .heic"),
}
"""Extra -> the module that it brings, and what needs it."""
LIBRARIES = ("torch", "diffusers", "transformers", "safetensors")


def configure(parser: argparse.ArgumentParser) -> None:
    add_folder_options(parser)


def run(options: argparse.Namespace) -> int:
    """Exit code 1 if a library is missing or a pack does not load."""
    registry, found = Registry.installed(options.nodes), settings(options)
    _say("graphflow", f"{installed_version()} in {Path(__file__).parents[1]}")
    _say("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores")
    missing = [name for name in LIBRARIES if not _say_version(name)]
    problems = list(registry.problems)
    if "torch" not in missing:
        problems += _say_device(registry, found)
    for pack, count in registry.packs.items():
        _say("node pack", f"{pack}: {count} node types")
    _say_models(registry, found)
    for what, folder in (("input", found.input_dir), ("output", found.output_dir), ("cache", default_folder())):
        _say(what, _folder(folder))
    _say("compiled code", _compiled())
    for advice in _advice(found):
        _say("advice", advice)
    complain(problems)
    return FAILED if problems or missing else DONE


def _advice(found: Settings) -> Iterator[str]:
    """Advice about things that are not faults, but seldom meant."""
    if not any(folder.is_dir() for folder in found.models):
        folders = " or ".join(str(folder.absolute()) for folder in found.models)
        yield f"to use models of your own, make {folders} with a folder checkpoints, or name a folder: --models DIR"
    if importlib.util.find_spec("torch") is not None:
        torch = importlib.import_module("torch")
        if torch.version.cuda is None and torch.version.hip is None and shutil.which("nvidia-smi"):
            yield "this machine has an NVIDIA GPU, and torch is a build for the CPU: see docs/install.md, Which torch"
    for what, folder in (("output", found.output_dir), ("cache", default_folder())):
        free = shutil.disk_usage(_existing(folder.absolute())).free
        if free < LITTLE:
            room = "graphflow cache prune --to-size 5GB makes room"
            yield f"only {free / 2**30:.1f} GB are free for the {what} folder: {room}"
    for extra, (module, use) in EXTRAS.items():
        if importlib.util.find_spec(module) is None:
            yield f"for {use}: pip install 'graphflow-engine[{extra}]'"


def _existing(folder: Path) -> Path:
    return next(place for place in (folder, *folder.parents) if place.exists())


def _say(what: str, text: str) -> None:
    print(f"{what:20} {text}")


def _say_version(name: str) -> bool:
    try:
        _say(name, version(name))
    except PackageNotFoundError:
        _say(name, f"missing: pip install {name}")
        return False
    return True


def _say_device(registry: Registry, found: Settings) -> Sequence[Problem]:
    """The device, number format and threads of a sampler; what is wrong with the settings of these."""
    torch = importlib.import_module("torch")
    sampler = registry.get("KSampler")
    if sampler is None or sampler.environment is None:
        kind, dtype = found.device, found.dtype
    else:
        try:
            kind, dtype = sampler.environment(found).split("; ")[:2]
        except GraphFlowError as error:
            return error.problems
    _say("device", f"{kind}{_memory(torch, kind)}")
    _say("number format", f"{dtype} (--dtype and --device choose others)")
    _say("compiling", f"{found.compile}; {_compiler(kind)}")
    asleep = os.environ.get("OMP_WAIT_POLICY", "").upper() == "PASSIVE"
    _say("threads", f"{torch.get_num_threads()}, which {'sleep' if asleep else 'may spin'} while they wait")
    return ()


def _compiler(kind: str) -> str:
    """What compiles denoisers on a kind of device."""
    if kind != "cpu":
        return "--compile on by Triton" if importlib.util.find_spec("triton") else "not possible: there is no Triton"
    named = os.environ.get("CXX")
    found = next(filter(None, map(shutil.which, [named] if named else ["g++", "clang++", "c++", "cl"])), None)
    return f"--compile on by {found}" if found else "not possible: there is no C++ compiler (g++)"


def _compiled() -> str:
    """The folder of the compiled code, and what it holds."""
    folder = compiled_folder().absolute()
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return f"{folder} ({readable(sum(sizes))}; delete the folder to clear it)" if sizes else f"{folder} (empty)"


def _memory(torch: Any, kind: str) -> str:
    if kind != "cuda":
        return ""
    free, total = torch.cuda.mem_get_info()
    return f": {torch.cuda.get_device_name()}, {free / 2**30:.1f} of {total / 2**30:.1f} GB free"


def _say_models(registry: Registry, found: Settings) -> None:
    """Each folder and how many files each of its sub-folders holds; then what a loader can choose from."""
    for folder in found.models:
        _say("models", _folder(folder))
        for sub in sorted(folder.iterdir()) if folder.is_dir() else ():
            if sub.is_dir():
                count = sum(len(files) for _, _, files in os.walk(sub))
                _say("", f"{sub.name}: {count} file{'' if count == 1 else 's'}")
    for where, names in sorted(_files(registry, found).items()):
        shown = ", ".join(names[:MANY]) + (f" and {len(names) - MANY} more" if len(names) > MANY else "")
        _say(f"in {where}", f"{len(names)}: {shown}" if names else "none")


def _files(registry: Registry, found: Settings) -> dict[str, list[str]]:
    """The names that nodes which load files can choose from, by folder."""
    choices = [item.choice for kind in registry.values() for item in kind.inputs.values() if item.choice]
    found_names = {choice.folder: list(choice.names(found)) for choice in choices if choice.folder}
    return {folder: names for folder, names in found_names.items() if folder != "output"}


def _folder(folder: Path) -> str:
    folder = folder.absolute()
    if not folder.exists():
        return f"{folder} (not there)"
    return f"{folder} ({shutil.disk_usage(folder).free / 2**30:.0f} GB free)"
