"""Folders of images below the input folder. Imports no torch."""

from __future__ import annotations

from pathlib import Path

from graphflow import Settings

from .read_image import ENDINGS
from .user_files import files_below

__all__ = ["folder_names", "images_in"]


def folder_names(settings: Settings) -> list[str]:
    """Folders below the input folder that hold images."""
    files = files_below(settings.input_dir, ENDINGS)
    return sorted({Path(name).parent.as_posix() for name in files} - {"."})


def images_in(settings: Settings, folder: str) -> list[str]:
    """Names of the images of a folder itself, relative to the input folder, in order."""
    return [name for name in files_below(settings.input_dir, ENDINGS) if Path(name).parent.as_posix() == folder]
