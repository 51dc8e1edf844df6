"""Folders of images below the input folder. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from graphflow import GraphFlowError, Problem, Settings

from .read_image import ENDINGS, image_size
from .user_files import files_below, files_in

__all__ = ["broken_images", "empty_folder", "folder_names", "images_in"]

SHOWN = 20
"""Broken images that are named one by one."""


def folder_names(settings: Settings) -> list[str]:
    """Folders below the input folder that hold images."""
    files = files_below(settings.input_dir, ENDINGS)
    return sorted({Path(name).parent.as_posix() for name in files} - {"."})


def images_in(settings: Settings, folder: str) -> list[str]:
    """Names of the images of a folder itself, relative to the input folder, in order."""
    return files_in(settings.input_dir, folder, ENDINGS)


def empty_folder(settings: Settings, folder: str) -> None:
    """For a Choice of `folder_names`: a folder that is there and holds no images is a Problem that states that."""
    parts = folder.split("/")
    if all(part and not part.startswith(".") for part in parts) and (settings.input_dir / folder).is_dir():
        message, hint = f"there are no images in the folder {folder!r} of the input folder", "put some into it"
        raise GraphFlowError([Problem("no_images", message, hint=hint)])


def broken_images(settings: Settings, names: Iterable[str], input: str = "folder") -> list[Problem]:
    """A Problem for each file of the input folder that is not an image, by its header; after the first ones, one with
    the number of the others. A file is read again only when it has changed.

    That the pixels of a file end too early shows when it is decoded.
    """
    found = []
    for name in names:
        path = os.path.join(settings.input_dir, name)
        try:
            state = os.stat(path)
        except OSError as error:
            found.append(Problem("unreadable_image", f"{name} cannot be read: {error.strerror}", input=input))
            continue
        wrong = _wrong_in(path, name, state.st_size, state.st_mtime_ns, state.st_ino)
        found += [Problem(code, message, input=input, hint=hint) for code, message, hint in wrong]
    if len(found) > SHOWN:
        message = f"{len(found) - SHOWN} more of these images cannot be read"
        return [*found[:SHOWN], Problem("unreadable_image", message, input=input)]
    return found


@lru_cache(maxsize=1 << 17)
def _wrong_in(path: str, name: str, size: int, changed: int, inode: int) -> tuple[tuple[str, str, str | None], ...]:
    """Code, message and hint. `size`, `changed` and `inode` are the file's, so that another content is another key."""
    try:
        image_size(Path(path), name)
    except GraphFlowError as error:
        return tuple((problem.code, problem.message, problem.hint) for problem in error.problems)
    return ()
