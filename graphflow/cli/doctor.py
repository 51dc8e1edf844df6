"""`graphflow doctor`"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ..cache import default_folder
from ..registry import Registry
from ..settings import Settings
from .common import DONE, FAILED, add_folder_options, complain, settings

__all__ = ["configure", "run"]

LIBRARIES = ("torch", "diffusers", "transformers", "safetensors")


def configure(parser: argparse.ArgumentParser) -> None:
    add_folder_options(parser)


def run(options: argparse.Namespace) -> int:
    """Exit code 1 if a library is missing or a pack does not load."""
    registry, found = Registry.installed(options.nodes), settings(options)
    _say("graphflow", f"{version('graphflow')} in {Path(__file__).parents[1]}")
    _say("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores")
    missing = [name for name in LIBRARIES if not _say_version(name)]
    if "torch" not in missing:
        _say("device", _device(found))
    for pack, count in registry.packs.items():
        _say("node pack", f"{pack}: {count} node types")
    _say_models(registry, found)
    for what, folder in (("input", found.input_dir), ("output", found.output_dir), ("cache", default_folder())):
        _say(what, _folder(folder))
    complain(registry.problems)
    return FAILED if registry.problems or missing else DONE


def _say(what: str, text: str) -> None:
    print(f"{what:20} {text}")


def _say_version(name: str) -> bool:
    try:
        _say(name, version(name))
    except PackageNotFoundError:
        _say(name, f"missing: pip install {name}")
        return False
    return True


def _device(found: Settings) -> str:
    torch = importlib.import_module("torch")
    if found.device.startswith("cuda"):
        if not torch.cuda.is_available():
            return f"{found.device}, but torch finds none: set GRAPHFLOW_DEVICE=cpu"
        free, total = torch.cuda.mem_get_info()
        return f"{found.device}: {torch.cuda.get_device_name()}, {free / 2**30:.1f} of {total / 2**30:.1f} GB free"
    return f"{found.device}, {torch.get_num_threads()} threads"


def _say_models(registry: Registry, found: Settings) -> None:
    """Each folder and how many files each of its sub-folders holds; then what a loader can choose from."""
    for folder in found.models:
        _say("models", _folder(folder))
        for sub in sorted(folder.iterdir()) if folder.is_dir() else ():
            if sub.is_dir():
                count = sum(len(files) for _, _, files in os.walk(sub))
                _say("", f"{sub.name}: {count} file{'' if count == 1 else 's'}")
    for where, names in sorted(_files(registry, found).items()):
        _say(f"in {where}", ", ".join(names) or "none")


def _files(registry: Registry, found: Settings) -> dict[str, list[str]]:
    """The names that nodes which load files can choose from, by folder."""
    choices = [item.choice for kind in registry.values() for item in kind.inputs.values() if item.choice]
    return {choice.folder: list(choice.names(found)) for choice in choices if choice.folder}


def _folder(folder: Path) -> str:
    folder = folder.absolute()
    if not folder.exists():
        return f"{folder} (not there)"
    return f"{folder} ({shutil.disk_usage(folder).free / 2**30:.0f} GB free)"
