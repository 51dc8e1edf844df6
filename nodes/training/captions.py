"""Folders of images with captions: what lies in them, and what is wrong with them. Imports no torch.

A caption comes from `NAME.txt` beside `NAME.png`, from `metadata.jsonl` (a JSON object a line: `file_name`, and the
caption in a column), or from `metadata.csv` (the same as a table): the layouts of Hugging Face's `imagefolder`. An
image may have several captions: lines of a text file, or a list in a column of `metadata.jsonl`.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from graphflow import GraphFlowError, Problem, Settings

from ..files.image_folders import images_in

__all__ = ["SOURCES", "Captioned", "captioned", "texts_in"]

SOURCES = ("auto", "txt", "metadata.jsonl", "metadata.csv", "none")
"""Where captions come from; `auto`: the first of the tables that is there, else the text files."""
NAME_COLUMN = "file_name"
_Found = dict[str, list[str]]
"""Image -> its captions."""
SHOWN = 5
"""Names in a message."""
LONGEST = 1 << 16
"""Bytes of a caption."""


@dataclass(frozen=True, slots=True)
class Captioned:
    """An image of the input folder and its caption."""

    name: str
    """Relative to the input folder."""
    caption: str


def texts_in(settings: Settings, folder: str) -> list[Path]:
    """The files that captions may come from."""
    root = settings.input_dir / folder
    found = [(settings.input_dir / name).with_suffix(".txt") for name in images_in(settings, folder)]
    return [path for path in (*found, root / "metadata.jsonl", root / "metadata.csv") if path.is_file()]


def captioned(
    settings: Settings, folder: str, source: str, column: str, trigger: str = "", several: bool = False
) -> list[Captioned]:
    """The images of a folder with their captions, in the order of their names; `trigger` comes before each caption.

    `several`: each line of a text file, and each text of a list in a table of JSON lines, is a caption of its own, so
    that an image occurs once with each.

    Raises Problems: no images, a caption file that is not UTF-8, a table without the column, images without a caption.
    """
    names = images_in(settings, folder)
    if not names:
        raise _wrong("no_images", f"there are no images in the folder {folder!r} of the input folder", "folder")
    captions = _CAPTIONS[_chosen(settings, folder, source)](settings, folder, names, column, several)
    missing = [name for name in names if not captions.get(name) and not (source == "none" and trigger)]
    if missing:
        shown = ", ".join(missing[:SHOWN]) + (f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else "")
        message = f"{len(missing)} of {len(names)} images have no caption: {shown}"
        hint = "write NAME.txt beside NAME.png, or a line in metadata.jsonl; or set captions to none and a trigger"
        raise _wrong("missing_captions", message, "captions", hint)
    return [
        Captioned(name, ", ".join(filter(None, (trigger, caption))))
        for name in names
        for caption in captions.get(name) or ("",)
    ]


def _chosen(settings: Settings, folder: str, source: str) -> str:
    if source != "auto":
        return source
    tables = (name for name in ("metadata.jsonl", "metadata.csv") if (settings.input_dir / folder / name).is_file())
    return next(tables, "txt")


def _none(settings: Settings, folder: str, names: list[str], column: str, several: bool) -> _Found:
    return {}


def _beside(settings: Settings, folder: str, names: list[str], column: str, several: bool) -> _Found:
    root = settings.input_dir / folder
    there = set(os.listdir(root))
    files = {name: f"{os.path.splitext(os.path.basename(name))[0]}.txt" for name in names}
    return {name: _lines(_text(root / file, folder), several) for name, file in files.items() if file in there}


def _json_lines(settings: Settings, folder: str, names: list[str], column: str, several: bool) -> _Found:
    path = settings.input_dir / folder / "metadata.jsonl"

    def rows() -> Iterator[tuple[str, Mapping[str, object]]]:
        for number, line in enumerate(_text(path, folder).splitlines(), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise _wrong("bad_metadata", f"{folder}/metadata.jsonl, line {number}: {error}", "captions") from None
            if not isinstance(row, dict):
                message = f"{folder}/metadata.jsonl, line {number}: this is not an object"
                raise _wrong("bad_metadata", message, "captions", 'a line is {"file_name": "a.png", "text": "..."}')
            yield f"line {number}", row

    return _from_rows(folder, path.name, rows(), column, several)


def _table(settings: Settings, folder: str, names: list[str], column: str, several: bool) -> _Found:
    path = settings.input_dir / folder / "metadata.csv"
    rows = csv.DictReader(io.StringIO(_text(path, folder)))
    return _from_rows(folder, path.name, ((f"row {number}", row) for number, row in enumerate(rows, 1)), column, False)


_CAPTIONS: Mapping[str, Callable[[Settings, str, list[str], str, bool], _Found]] = {
    "none": _none,
    "txt": _beside,
    "metadata.jsonl": _json_lines,
    "metadata.csv": _table,
}


def _lines(text: str, several: bool) -> list[str]:
    """The captions of a text: one, or one a line."""
    found = [" ".join(part.split()) for part in (text.splitlines() if several else [text])]
    return [caption for caption in found if caption]


def _from_rows(
    folder: str, file: str, rows: Iterator[tuple[str, Mapping[str, object]]], column: str, several: bool
) -> _Found:
    found: _Found = {}
    for place, row in rows:
        texts = row.get(column)
        if several and isinstance(texts, list) and all(isinstance(text, str) for text in texts):
            row = {**row, column: "\n".join(texts)}
        for wanted in (NAME_COLUMN, column):
            if not isinstance(row.get(wanted), str):
                known = ", ".join(map(repr, list(row)[:8])) or "nothing"
                message = f"{folder}/{file}, {place}: there is no text {wanted!r}; it has {known}"
                hint = (
                    "set caption_lines to each: it is a list of captions" if isinstance(row.get(wanted), list) else None
                )
                raise _wrong("bad_metadata", message, "column" if wanted == column else "captions", hint)
        found[f"{folder}/{row[NAME_COLUMN]}"] = _lines(str(row[column]), several)
    return found


def _text(path: Path, folder: str) -> str:
    """The text of a UTF-8 file, with or without a byte order mark; `folder` is how messages call that of the file."""
    name = f"{folder}/{path.name}"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _wrong("no_captions", f"{name} cannot be read: {error.strerror}", "captions") from None
    if path.suffix == ".txt" and len(data) > LONGEST:
        raise _wrong("bad_caption", f"{name} has {len(data):,} bytes: this is not a caption", "captions")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        encoding = "UTF-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "another encoding"
        message = f"{name} is not UTF-8 but {encoding} (byte {error.start + 1} is {data[error.start]:#04x})"
        hint = f"save it as UTF-8: iconv -f {'UTF-16' if encoding == 'UTF-16' else 'WINDOWS-1252'} -t UTF-8"
        raise _wrong("bad_encoding", message, "captions", hint) from None


def _wrong(code: str, message: str, input: str, hint: str | None = None) -> GraphFlowError:
    return GraphFlowError([Problem(code, message, input=input, hint=hint)])
