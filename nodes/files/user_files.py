"""Files in and out: what the input folder holds, and numbered files in the output folder, whole or not at all.

Where a node reads a file of the input folder, `x.png [output]` and `x.png [temp]` name one of another folder: so does
ComfyUI's editor when it takes an image from one node to another, or lets somebody paint a mask on it.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from stat import S_ISLNK, S_ISREG
from typing import Any, BinaryIO, cast

from graphflow import Context, GraphFlowError, Problem, Settings
from graphflow.spi import is_reference

from .not_written import writing
from .prefixes import inside, target_of

__all__ = [
    "examples",
    "files_below",
    "files_in",
    "files_written",
    "input_digest",
    "input_path",
    "other_folders",
    "save_numbered",
]

Content = bytes | Callable[[BinaryIO], None]
EXAMPLES = Path(__file__).parents[1] / "builtin" / "examples"
"""Files that workflows of the package read: the input folder holds them, too, unless it has one of the same name."""
_ANNOTATED = re.compile(r"(.*?) *\[(input|output|temp)\]")


def files_below(root: Path, endings: tuple[str, ...]) -> list[str]:
    """Names relative to the root of all files with these endings; links that lead out of it are left out."""
    found = []
    for folder, _, names in os.walk(root):
        below = os.path.relpath(folder, root).replace(os.sep, "/")
        found += [name if below == "." else f"{below}/{name}" for name in _usable(root, folder, names, endings)]
    return sorted(found)


def files_in(root: Path, folder: str, endings: tuple[str, ...]) -> list[str]:
    """The names of `files_below` that lie in one folder itself."""
    place, true_root = root / folder, root.resolve()
    if PurePosixPath(folder).as_posix() != folder:  # another spelling of it
        return []
    if place.resolve() != true_root / folder or not place.resolve().is_relative_to(true_root):
        return []
    begin = "" if folder == "." else f"{folder}/"
    _, _, names = next(os.walk(place), ("", [], []))
    return sorted(begin + name for name in _usable(root, str(place), names, endings))


def _usable(root: Path, folder: str, names: Iterable[str], endings: tuple[str, ...]) -> Iterator[str]:
    """Files with these endings, and links to files that do not lead out of the root."""
    for name in names:
        if os.path.splitext(name)[1].lower() in endings:
            path = os.path.join(folder, name)
            try:
                mode = os.lstat(path).st_mode
            except OSError:  # it went meanwhile
                continue
            if S_ISREG(mode) or (S_ISLNK(mode) and os.path.isfile(path) and _is_inside(root, path)):
                yield name


def _is_inside(root: Path, path: str) -> bool:
    return Path(path).resolve().is_relative_to(root.resolve())


def examples(endings: tuple[str, ...]) -> list[str]:
    """Names of the shipped files with these endings."""
    return files_below(EXAMPLES, endings)


def other_folders(endings: tuple[str, ...], shipped: bool = False) -> Callable[[Settings, str], str | None]:
    """For a Choice of files of the input folder with these endings: it takes `x.png [output]` as well, and where
    `shipped`, the names of the shipped examples."""

    def read(settings: Settings, value: str) -> str | None:
        if is_reference(value):
            if value in settings.values:
                return value
            raise GraphFlowError(
                [
                    Problem(
                        "no_value",
                        "it names a Python value of another program, which is not here",
                        hint="run it from the script that made it, or name a file",
                    )
                ]
            )
        found = _ANNOTATED.fullmatch(value)
        if found is None:
            return value if shipped and value in examples(endings) else None
        name, kind = found[1].replace("\\", "/"), found[2]
        parts = name.split("/")
        is_plain = not any(part == "" or part.startswith(".") for part in parts)
        if is_plain and name.lower().endswith(endings) and input_path(settings, value).is_file():
            return name if kind == "input" else f"{name} [{kind}]"
        raise GraphFlowError(
            [
                Problem(
                    "no_file",
                    f"found {value[:200]!r}, but there is no such file in {kind}",
                    hint="give the name as it is in that folder, with its sub-folder",
                )
            ]
        )

    return read


def input_path(settings: Settings, name: str) -> Path:
    """The file that a name in the input folder stands for, or `NAME [output]` in another; a Problem if it lies
    outside. A name that the input folder lacks may be a shipped example."""
    found = _ANNOTATED.fullmatch(name)
    folders = {"input": settings.input_dir, "output": settings.output_dir, "temp": settings.temp_dir}
    if found is not None and found[2] != "input":
        return inside(folders[found[2]], found[1])
    name = name if found is None else found[1]
    own, shipped = inside(settings.input_dir, name), EXAMPLES / Path(name).name
    return shipped if name == shipped.name and shipped.is_file() and not own.exists() else own


def input_digest(settings: Settings, name: str) -> str:
    """The fingerprint of the file that a name in the input folder stands for."""
    if name in settings.values:
        return name
    try:
        return settings.digests.of(input_path(settings, name))
    except OSError as error:
        raise GraphFlowError([Problem("no_file", f"{name} cannot be read: {error.strerror}")]) from None


def files_written(settings: Settings, ui: dict[str, Any] | None) -> str | None:
    """Digests of all files that an output node has shown; None where one is gone."""
    try:
        shown = [item for items in (ui or {}).values() for item in items if isinstance(item, dict) and "path" in item]
        return ";".join(settings.digests.of(Path(item["path"])) for item in shown)
    except OSError:
        return None


def save_numbered(
    contents: Iterable[Content],
    context: Context,
    folder: Path,
    prefix: str,
    ending: str,
    kind: str,
    size: tuple[int, int] = (0, 0),
) -> list[dict[str, str]]:
    """Write `PREFIX_00001_.png` and so on with the next free numbers; what ComfyUI calls them in `ui`.

    A content that is a function writes itself into the open file: for files that would not fit into memory.

    A run that is named (`context.claims`) and made again after a crash finds the files it had written already. The
    variants of a sweep get numbers in their order (`context.numbering`), whichever is done first.
    """
    numbering = context.numbering
    if numbering is not None:
        named = numbering.filled(prefix, context.display or context.node_id)
        if named != prefix:  # the name is the variant's own: no numbers have to keep it apart from the others'
            prefix, numbering = named, None
    target = target_of(folder, prefix, *size)
    target.parent.mkdir(parents=True, exist_ok=True)
    claims = _claims(context, target.parent)
    if claims is not None:
        target = _first_target(claims / _digest(f"{context.node_id}/{context.call}/{prefix}"), target)
    number = None
    if numbering is not None:
        contents = list(contents)
        free = _next_number(target, ending)
        number = numbering.number(context.display or context.node_id, target, ending, free, len(contents))
    saved = []
    for index, content in enumerate(contents):
        context.check_cancelled()
        name = _digest(f"{context.node_id}/{context.call}/{prefix}/{ending}/{index}")
        claim = claims / name if claims is not None else None
        with writing(target.with_name(target.name + ending)):
            path = _save(content, target, ending, claim, None if number is None else number + index)
        relative = path.parent.relative_to(folder.resolve())
        subfolder = "" if str(relative) == "." else relative.as_posix()
        saved.append({"filename": path.name, "subfolder": subfolder, "type": kind, "path": str(path)})
    return saved


def _claims(context: Context, folder: Path) -> Path | None:
    """Where the run notes what it writes; None for a run without a name, and on another disk than the folder's."""
    if context.claims is None:
        return None
    context.claims.mkdir(parents=True, exist_ok=True)
    return context.claims if context.claims.stat().st_dev == folder.stat().st_dev else None


def _first_target(note: Path, target: Path) -> Path:
    """The prefix as it was filled in when the run was first made: the clock may have gone on since."""
    if note.exists() and (noted := note.read_text(encoding="utf-8")):
        first = Path(noted)
        first.parent.mkdir(parents=True, exist_ok=True)
        return first
    new = note.with_suffix(".new")
    new.write_text(str(target), encoding="utf-8")
    os.replace(new, note)
    return target


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _save(
    content: Content,
    target: Path,
    ending: str,
    claim: Path | None,
    number: int | None = None,
) -> Path:
    """One file. The claim is a second name of it: whoever finds the claim knows whether the file has its name yet."""
    if claim is not None and claim.exists():
        state = claim.stat()
        for item in os.scandir(target.parent) if state.st_nlink > 1 else ():
            if item.inode() == state.st_ino and item.name.endswith(ending):
                return Path(item.path)
    # What a killed process leaves half-written goes with the notes of its run.
    folder = claim.parent if claim is not None else target.parent
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".", suffix=".tmp", delete=False) as file:
        try:
            if callable(content):
                content(cast(BinaryIO, file))
            else:
                file.write(content)
            file.flush()
            os.fsync(file.fileno())
            os.chmod(file.name, 0o644)
            if claim is not None:
                os.replace(file.name, claim)
            path = _give_number(str(claim) if claim is not None else file.name, target, ending, number)
        finally:
            Path(file.name).unlink(missing_ok=True)
    _sync(path.parent)
    return path


def _sync(folder: Path) -> None:
    """A new name is safe from a power cut when its folder is on the disk, too."""
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    except OSError:
        pass  # some file systems cannot sync a folder; they write names in order
    finally:
        os.close(file)


def _next_number(target: Path, ending: str) -> int:
    """One more than the highest number that a file has."""
    taken = re.compile(re.escape(target.name) + r"_(\d+)_" + re.escape(ending))
    numbers = [int(found[1]) for name in os.listdir(target.parent) if (found := taken.fullmatch(name))]
    return max(numbers, default=0) + 1


def _give_number(finished: str, target: Path, ending: str, number: int | None) -> Path:
    """This number, or the next free one. A hard link fails if the name is taken, so no two runs get one name."""
    if number is None:
        number = _next_number(target, ending)
    while True:
        path = target.with_name(f"{target.name}_{number:05}_{ending}")
        try:
            os.link(finished, path)
            return path
        except FileExistsError:
            number += 1
        except OSError:
            return _without_links(finished, path)


def _without_links(finished: str, path: Path) -> Path:
    """For file systems that have no hard links: take the name first, then put the file there."""
    while True:
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            stem, number = path.stem.rstrip("_").rsplit("_", 1)
            path = path.with_name(f"{stem}_{int(number) + 1:05}_{path.suffix}")
            continue
        try:
            os.replace(finished, path)
        except OSError:
            path.unlink(missing_ok=True)
            raise
        return path
