"""Folders of images below the input folder. Imports no torch."""

from __future__ import annotations

from pathlib import Path

from graphflow import GraphFlowError, Problem, Settings

from .read_image import ENDINGS
from .user_files import files_below

__all__ = ["empty_folder", "folder_names", "images_in"]


def folder_names(settings: Settings) -> list[str]:
    """Folders below the input folder that hold images."""
    files = files_below(settings.input_dir, ENDINGS)
    return sorted({Path(name).parent.as_posix() for name in files} - {"."})


def images_in(settings: Settings, folder: str) -> list[str]:
    """Names of the images of a folder itself, relative to the input folder, in order."""
    return [name for name in files_below(settings.input_dir, ENDINGS) if Path(name).parent.as_posix() == folder]


def empty_folder(settings: Settings, folder: str) -> None:
    """For a Choice of `folder_names`: a folder that is there and holds no images is a Problem that states that."""
    parts = folder.split("/")
    if all(part and not part.startswith(".") for part in parts) and (settings.input_dir / folder).is_dir():
        message, hint = f"there are no images in the folder {folder!r} of the input folder", "put some into it"
        raise GraphFlowError([Problem("no_images", message, hint=hint)])
