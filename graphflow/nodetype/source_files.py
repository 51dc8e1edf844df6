"""The files that code comes from: those that a Python file imports, in its own package or not installed, and their
digests."""

from __future__ import annotations

import ast
import marshal
import secrets
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from functools import cache
from hashlib import blake2b
from importlib.machinery import EXTENSION_SUFFIXES, PathFinder
from pathlib import Path
from types import CodeType, ModuleType

__all__ = [
    "file_of",
    "found_on_path",
    "home_of",
    "is_installed",
    "is_library",
    "is_own",
    "root_of",
    "texts_digest",
    "with_imported",
]

_ENDINGS = (".py", *EXTENSION_SUFFIXES, ".pyc")
"""A compiled file counts where its text is not there."""
_LOADS_BY_NAME = frozenset({"import_module", "__import__", "spec_from_file_location", "run_path", "run_module"})
"""Functions that import what only they know."""


def is_installed(file: str | None) -> bool:
    """Whether code of this file belongs to Python, to an installed package, or to this engine: such code is known by
    the versions that a node states. Code that was typed in (`<stdin>`) is nobody's but the user's."""
    if not file:
        return True
    return file.startswith("<frozen") if file.startswith("<") else _is_below_installed(file)


@cache
def _is_below_installed(file: str) -> bool:
    path = Path(file).resolve()
    if "site-packages" in path.parts or "dist-packages" in path.parts:
        return True
    return any(path.is_relative_to(folder) for folder in _installed_folders())


@cache
def _installed_folders() -> tuple[Path, ...]:
    named = sysconfig.get_paths()
    folders = {named[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")} | set(site.getsitepackages())
    return (Path(__file__).parents[1].resolve(), *(Path(folder).resolve() for folder in folders))


def is_own(module: ModuleType | None, package: str = "") -> bool:
    """Whether the module is the user's, in a file that is not installed or typed in, or belongs to the package."""
    file = getattr(module, "__file__", None)
    if isinstance(file, str):
        return not is_installed(file) or (module is not None and module.__name__.partition(".")[0] == package)
    return module is not None and getattr(module, "__spec__", None) is None and "." not in module.__name__


def file_of(module: ModuleType | None, package: str = "") -> Path | None:
    """The file of a module that `is_own`, if it has one."""
    file = getattr(module, "__file__", None)
    return Path(file).resolve() if isinstance(file, str) and is_own(module, package) and Path(file).is_file() else None


@cache
def home_of(name: str) -> str:
    """Whose a module is: the name of its outermost package, which is enough for one that is installed; of any other one
    there may be several, so the place counts, too."""
    top = name.partition(".")[0]
    module = sys.modules.get(top) or sys.modules.get(name)
    file = file_of(module)
    places = [str(file)] if file is not None else list(getattr(module, "__path__", ())) if is_own(module) else []
    return " in ".join([top, *places[:1]])


def root_of(path: Path, module: ModuleType | None) -> Path:
    """The folder of the outermost package that the module lies in, or its own folder."""
    depth = (getattr(module, "__package__", None) or "").count(".")
    return path.parents[min(depth, len(path.parents) - 1)]


def with_imported(files: Iterable[tuple[Path, Path]]) -> list[Path]:
    """Files, each with its root, and all that they import and is not installed, directly or through others. Sorted.

    Raises OSError.
    """
    stack = list(files)
    found = {path for path, _ in stack}
    while stack:
        path, root = stack.pop()
        for imported, its_root in _imports(path, root, _state(path)):
            if imported not in found:
                found.add(imported)
                stack.append((imported, its_root))
    return sorted(found)


def texts_digest(files: Iterable[Path], loaded: float) -> bytes:
    """A digest of all texts. `loaded` is when they were imported (Unix time): of a file that was changed since then, or
    put in the place of another, nobody knows which text is running, so the digest is a new one. Raises OSError."""
    hasher = blake2b(digest_size=16)
    for path in files:
        found = path.stat()
        changed = max(found.st_mtime, found.st_ctime) > loaded
        hasher.update(secrets.token_bytes(16) if changed else _text(path, _state(path)))
    return hasher.digest()


State = tuple[int, int, int, int]


def _state(path: Path) -> State:
    found = path.stat()
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


@cache
def _text(path: Path, state: State) -> bytes:
    return blake2b(path.read_bytes(), digest_size=16).digest()


@cache
def _imports(path: Path, root: Path, state: State) -> tuple[tuple[Path, Path], ...]:
    """Files that a file imports, each with its root; `state` differs for each text of it. Where it imports by a
    name that is not in its text, all files below the root count."""
    if path.suffix == ".pyc":
        return tuple(_imports_of_compiled(path, root).items())
    if path.suffix != ".py":
        return ()
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError):
        return ()
    found: dict[Path, Path] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found.update(_absolute(alias.name, root))
        elif isinstance(node, ast.ImportFrom):
            names = [(node.module or "") + (f".{alias.name}" if node.module else alias.name) for alias in node.names]
            for name in [node.module, *names] if node.module else names:
                if node.level:
                    start = path.parents[min(node.level, len(path.parents)) - 1]
                    found.update((file, root) for file in _below(start, name or ""))
                else:
                    found.update(_absolute(name or "", root))
        elif isinstance(node, ast.Call) and _LOADS_BY_NAME & _words(node.func):
            for word in node.args[:1]:
                if isinstance(word, ast.Constant) and isinstance(word.value, str) and not word.value.startswith("."):
                    found.update(_absolute(word.value, root))
        elif _LOADS_BY_NAME & _words(node):
            found.update((file, root) for file in _all_below(root))
    return tuple(found.items())


def _imports_of_compiled(path: Path, root: Path) -> dict[Path, Path]:
    """The files that a compiled file without its text imports; every name in it could be one, of its own package or
    not. Raises OSError where it is not one of this Python."""
    try:
        code = marshal.loads(path.read_bytes()[_HEADER_OF_COMPILED:])
    except (ValueError, EOFError, TypeError) as error:
        raise OSError(f"{path} is not a compiled file of this Python") from error
    found: dict[Path, Path] = {}
    stack = [code] if isinstance(code, CodeType) else []
    while stack:
        code = stack.pop()
        stack += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
        for name in code.co_names:
            found.update((file, root) for file in _below(path.parent, name))
            found.update(_absolute(name, root))
    return found


_HEADER_OF_COMPILED = 16
"""Bytes: the version of Python, flags, time and size of the text."""


def _words(node: ast.AST) -> set[str | None]:
    """The dotted text of a name, or of an attribute of something."""
    return {getattr(node, "id", None), getattr(node, "attr", None)}


def _all_below(root: Path) -> list[Path]:
    """The Python files of a package; of a folder that is not one, which may be anybody's home, those that lie in it
    itself."""
    found = root.rglob("*.py") if (root / "__init__.py").is_file() else root.glob("*.py")
    return [path.resolve() for path in found if "site-packages" not in path.relative_to(root).parts]


def _absolute(name: str, root: Path) -> dict[Path, Path]:
    """The files of `import a.b.c`: below the root, whose own name may be the first part, or where Python finds `a`."""
    first, _, rest = name.partition(".")
    near = [*_below(root, name), *(_below(root, rest) if first == root.name else ())]
    if near:
        return dict.fromkeys(near, root)
    return found_on_path(name)


def found_on_path(name: str) -> dict[Path, Path]:
    """The files of `import a.b.c`, each with its root, where Python finds `a` and it is not installed."""
    first = name.partition(".")[0]
    path = _path_of(first)
    if path is None or is_installed(path):
        return {}
    place = Path(path).resolve().parent
    folder = place / first
    return dict.fromkeys(_below(place, name), folder if folder.is_dir() else place)


def is_library(name: str) -> bool:
    """Whether `import name` finds an installed package; Python's own modules are none."""
    path = _path_of(name)
    return path is not None and is_installed(path)


def _path_of(name: str) -> str | None:
    """The file or folder of a top-level module; None for a part of Python, and where there is none."""
    if name in sys.stdlib_module_names:
        return None
    loaded = sys.modules.get(name)
    found = getattr(loaded, "__spec__", None) if loaded is not None else PathFinder.find_spec(name)
    within = list(getattr(found, "submodule_search_locations", None) or ())
    path = within[0] if within else getattr(found, "origin", None)
    return str(path) if path is not None else None


def _below(start: Path, dotted: str) -> Iterator[Path]:
    """The files of `a.b.c` below a folder: `a/__init__.py`, `a/b/__init__.py`, `a/b/c.py`."""
    folder = start
    for part in dotted.split("."):
        for stem in (folder / part / "__init__", folder / part) if part else ():
            for ending in _ENDINGS:
                path = stem.with_name(stem.name + ending)
                if path.is_file():
                    yield path.resolve()
                    break
        folder /= part
