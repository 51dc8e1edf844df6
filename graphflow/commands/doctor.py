"""`graphflow doctor`"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import platform
from importlib.metadata import PackageNotFoundError, version

from ..cache import default_folder
from .common import DONE, FAILED, add_folder_options, engine

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    add_folder_options(parser)


def run(options: argparse.Namespace) -> int:
    found = engine(options)
    print(
        f"python        {platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    )
    for name in ("graphflow", "torch", "diffusers", "transformers", "safetensors"):
        try:
            print(f"{name:13} {version(name)}")
        except PackageNotFoundError:
            print(f"{name:13} missing: pip install {name}")
    if importlib.util.find_spec("torch"):
        torch = importlib.import_module("torch")
        print(f"device        {torch.cuda.get_device_name() if torch.cuda.is_available() else 'cpu'}")
    for pack, count in found.registry.packs.items():
        print(f"node pack     {pack}: {count} node types")
    for folder in found.settings.models:
        print(f"models        {folder}{'' if folder.is_dir() else ' (not there)'}")
    loader = found.registry.get("CheckpointLoaderSimple")
    if loader is not None and (choice := loader.inputs["ckpt_name"].choice) is not None:
        print(f"checkpoints   {', '.join(choice.names(found.settings)) or 'none'}")
    print(f"cache         {default_folder()}")
    return FAILED if found.registry.problems else DONE
