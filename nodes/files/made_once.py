"""Files and folders that are made once and then have their content's name: whole, whoever makes them first."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from .not_written import writing

__all__ = ["file_once", "folder_once"]


def file_once(path: Path, write: Callable[[Path], object]) -> Path:
    """`write` gets another path beside it, which then takes the name. Nothing is written where the file is there."""
    if not path.exists():
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".new", delete=False) as file:
                try:
                    write(Path(file.name))
                    os.replace(file.name, path)
                finally:
                    Path(file.name).unlink(missing_ok=True)
    return path


def folder_once(folder: Path, fill: Callable[[Path], object]) -> Path:
    """`fill` gets an empty folder beside it, which then takes the name. Nothing is done where the folder is there."""
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(dir=folder.parent, suffix=".new"))
        try:
            with writing(folder):
                fill(new)
                _named(new, folder)
        finally:
            shutil.rmtree(new, ignore_errors=True)
    return folder


def _named(new: Path, folder: Path) -> None:
    try:
        os.rename(new, folder)
    except OSError:
        if not folder.exists():
            raise  # else another run was first
