"""Facts read from the files of a pack: a digest of them, whether a node may expand, which libraries it computes with,
and which environment variables it reads."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path

from ..files.digests import walk_once
from ..nodetype.source_files import file_of, found_on_path, is_library, with_imported
from . import standins

__all__ = ["PackSource", "read_source"]

_EXPAND = re.compile(rb"""["']expand["']|\bexpand\s*=""")
_IMPORT = re.compile(
    rb"(?:^|[;:])[ \t]*(?:from[ \t]+(\w[\w.]*)[ \t]+import\b|import[ \t]+(\w(?:[^#;\n\\]|\\\n)*))", re.MULTILINE
)
_LOADS = re.compile(rb"\b(?:__import__|import_module)\s*\(\s*[\"'](\w[\w.]*)[\"']")
_LOADS_BY_NAME = re.compile(
    rb"\b(?:__import__|import_module|spec_from_file_location|SourceFileLoader|run_path|run_module|exec)\b"
    rb"(?!\s*\(\s*[\"'][\w.]*[\"']\s*[,)])"
)
"""Functions that import what only they know, unless they are called with a plain text."""
_VARIABLE = re.compile(
    rb"""\b(?:environ(?:\.(?:get|pop|setdefault))?\s*[(\[]|getenv\s*\()\s*["'](\w+)["']"""
    rb"""|["'](\w+)["']\s+(?:not\s+)?in\s+(?:os\.)?environ\b(?![.\[])"""
)
_VARIABLES = re.compile(rb"\b(?:environ|getenv)\b")
_IMPORTED_VARIABLES = re.compile(rb"\bfrom[ \t]+os[ \t]+import[^\n]*")
_OF_A_SHELL = frozenset(
    {
        "_",
        "COLUMNS",
        "DISPLAY",
        "GPG_TTY",
        "LINES",
        "OLDPWD",
        "PWD",
        "PYTEST_CURRENT_TEST",
        "SHLVL",
        "SSH_AUTH_SOCK",
        "SSH_CLIENT",
        "SSH_CONNECTION",
        "SSH_TTY",
        "TERM",
        "TERM_SESSION_ID",
        "TMUX",
        "TMUX_PANE",
        "WINDOWID",
        "XDG_SESSION_ID",
    }
)
"""Variables that differ from window to window."""
_READ_WHOLE = 1 << 20
"""Bytes up to which a file counts by what is in it; of a larger one (weights, for example) size and times count."""
_PASSED_OVER = (".log", ".tmp")
_ALWAYS = ("torch", "numpy", "PIL", "diffusers", "transformers", "spandrel", "graphflow")
"""The last four compute for a pack that calls the node library, or a model that is handed to it."""
_DISTRIBUTIONS = {
    "PIL": ("pillow",),
    "yaml": ("pyyaml",),
    "sklearn": ("scikit-learn",),
    "skimage": ("scikit-image",),
    "cv2": ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless"),
}
"""Some that are not called what they are imported as: to find out takes a tenth of a second."""


@dataclass(frozen=True)
class PackSource:
    digest: str
    """Of all files of the pack, for a node class may use any of them, and of modules elsewhere that it imports."""
    expands: bool
    """A pack that never names the key cannot give an expansion."""
    imported: frozenset[str]
    """Top-level names."""
    loads_by_name: bool = False
    """Its text does not show all that it imports."""
    path: Path = Path()
    variables: frozenset[str] | None = frozenset()
    """The names of the environment variables that its text names; None where it reads others, too."""

    def read_variables(self) -> str:
        """A digest of the environment variables that it reads, as they are now; empty where it reads none."""
        names = sorted(os.environ.keys() - _OF_A_SHELL if self.variables is None else self.variables)
        if not names:
            return ""
        stated = "\0".join(f"{name}={os.environ[name]}" if name in os.environ else name for name in names)
        return f"variables {sha256(os.fsencode(stated)).hexdigest()[:16]}"

    @cached_property
    def libraries(self) -> str:
        """The versions of the installed libraries that it imports."""
        names = {*_ALWAYS, *(name for name in self.imported if not standins.stands_in(name) and is_library(name))}
        found = {known for name in names for known in _versions(name)}
        return "; ".join(sorted(found, key=str.lower))

    def loaded(self) -> str:
        """A digest of the modules that this process has loaded and that are neither installed nor of a pack, where this
        pack may be who uses them; else empty. What a call loads is not there before it, so the answer differs after."""
        if not self.loads_by_name:
            return ""
        found = [path for path in _loose_modules(tuple(sys.modules)) if not path.is_relative_to(self.path)]
        hasher = sha256(b"".join(map(_first_seen, found)))
        return f"modules {hasher.hexdigest()[:16]}" if found else ""


def read_source(path: Path) -> PackSource:
    """Of a file, or of a folder with all in it but hidden files, caches of Python and logs."""
    hasher = sha256()
    expands = loads_by_name = False
    imported: set[str] = set()
    variables: set[str] | None = set()
    for file in _files(path) if path.is_dir() else [path]:
        hasher.update(os.fsencode(file.relative_to(path.parent)) + b"\0")
        try:
            content = _content(file)
        except OSError:  # gone meanwhile, or not for us: then the pack reads it no more than we do
            continue
        hasher.update(b"%d\0" % len(content) + content)
        if file.suffix == ".py":
            expands = expands or _EXPAND.search(content) is not None
            imported.update(_imported(content))
            loads_by_name = loads_by_name or _LOADS_BY_NAME.search(content) is not None
            named = _variables_in(content)
            variables = None if variables is None or named is None else variables | named
        loads_by_name = loads_by_name or file.suffix == ".pyc"
    for helper in _elsewhere(imported, path):
        hasher.update(helper.read_bytes())
    names = frozenset(name.partition(".")[0] for name in imported)
    read = None if variables is None else frozenset(variables)
    return PackSource("p" + hasher.hexdigest()[:24], expands, names, loads_by_name, path.resolve(), read)


def _variables_in(text: bytes) -> set[str] | None:
    """The environment variables that a text reads by plain names; None where it may read others."""
    named = [one or other for one, other in _VARIABLE.findall(text)]
    imports = sum(len(_VARIABLES.findall(line)) for line in _IMPORTED_VARIABLES.findall(text))
    if len(_VARIABLES.findall(text)) > len(named) + imports:
        return None
    return {name.decode() for name in named}


def _content(file: Path) -> bytes:
    state = file.stat()
    if file.suffix == ".py" or state.st_size <= _READ_WHOLE:
        return file.read_bytes()
    return b"%d %d %d" % (state.st_size, state.st_mtime_ns, state.st_ctime_ns)


def _files(root: Path) -> Iterator[Path]:
    """In order; links are followed."""
    for name, folders, files in walk_once(root):
        folders[:] = sorted(folder for folder in folders if not folder.startswith(".") and folder != "__pycache__")
        for file in sorted(files):
            is_left_out = file.startswith(".") or file.endswith(_PASSED_OVER)
            is_made_of_text = file.endswith(".pyc") and file[:-1] in files
            if not is_left_out and not is_made_of_text and Path(name, file).is_file():
                yield Path(name, file)


def _imported(text: bytes) -> Iterator[str]:
    """Names of modules as they stand in import statements. Words of a docstring may be among them: they find
    nothing."""
    for source, names in _IMPORT.findall(text):
        for name in [source] if source else names.split(b","):
            word = name.split()[0] if name.split() else b""
            if word.replace(b".", b"").replace(b"_", b"").isalnum():
                yield word.decode("ascii", "ignore")
    for name in _LOADS.findall(text):
        yield name.decode("ascii", "ignore")


@lru_cache(maxsize=4)
def _loose_modules(names: tuple[str, ...]) -> tuple[Path, ...]:
    """The files of these modules that are not installed, but for packs and the program itself."""
    chosen = (name for name in names if name != "__main__" and not name.startswith("graphflow_pack_"))
    found = {file_of(sys.modules.get(name)) for name in chosen if not standins.stands_in(name.partition(".")[0])}
    return tuple(sorted(path for path in found if path is not None))


@cache
def _first_seen(path: Path) -> bytes:
    """The text that was loaded: a later one does not run."""
    return sha256(path.read_bytes()).digest()


def _elsewhere(imported: Iterable[str], pack: Path) -> list[Path]:
    """The files outside of the pack that it imports and that are not installed."""
    found: dict[Path, Path] = {}
    for name in imported:
        if not standins.stands_in(name.partition(".")[0]):
            found.update(found_on_path(name))
    pack = pack.resolve()
    return with_imported((file, root) for file, root in found.items() if not file.is_relative_to(pack))


@cache
def _versions(name: str) -> tuple[str, ...]:
    """Of the distributions that a module is installed by."""
    found = _stated(_DISTRIBUTIONS.get(name, (name,)))
    return found or _stated(packages_distributions().get(name, ()))


def _stated(distributions: Iterable[str]) -> tuple[str, ...]:
    found = []
    for name in distributions:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return tuple(found)
