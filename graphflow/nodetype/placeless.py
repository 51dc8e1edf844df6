"""Whether code is the same thing wherever its file lies: it cannot open a file, nor learn where it is.

Then a node of a user's own file is known by its text alone, and machines that have the same text share its results. It
is decided by the words of the text, and each word that might matter decides against it: what cannot be told is a miss.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

__all__ = ["is_placeless"]

PURE = frozenset(
    {
        "__future__",
        "abc",
        "bisect",
        "cmath",
        "collections",
        "colorsys",
        "copy",
        "dataclasses",
        "decimal",
        "enum",
        "fractions",
        "functools",
        "graphflow",
        "heapq",
        "itertools",
        "math",
        "numbers",
        "numpy",
        "operator",
        "random",
        "statistics",
        "string",
        "textwrap",
        "torch",
        "types",
        "typing",
        "typing_extensions",
        "unicodedata",
    }
)
"""Modules that code may import; those of them that can read files do it by the words below."""
READS = re.compile(
    r"open|load|read|import|file|path|folder|dir$|cwd|environ|source|memmap|fromtxt|package|hub|jit|input$|stat$|"
    r"compile|eval|exec|getattr|getter|caller|globals|locals|vars|inspect|module|sys|process|distributed|serializ|"
    r"getframe|currentframe|_frame$|f_back|_globals|_code$|co_|_C$|lib$|ops$|utils|testing|backends|classes|"
    r"engine|workflow|settings|connect|sweep|run$|cache",
    re.IGNORECASE,
)
"""Parts of words by which code might open a file, learn where it lies, or call what is not in its text."""
PLAIN_DUNDERS = frozenset({"__name__", "__init__", "__post_init__", "__call__", "__all__", "__future__", "__slots__"})


def is_placeless(files: Iterable[Path]) -> bool:
    """Whether none of these Python files reads, or knows, anything but what it is given. Raises OSError."""
    return all(_is_placeless(path, os.stat(path).st_mtime_ns, os.stat(path).st_size) for path in files)


@cache
def _is_placeless(path: Path, modified: int, size: int) -> bool:
    if path.suffix != ".py":
        return False
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError):
        return False
    nodes = list(ast.walk(tree))
    imported = (name.partition(".")[0] for node in nodes for name in _imported(node))
    return all(name in PURE for name in imported) and all(_is_harmless(word) for node in nodes for word in _words(node))


def _is_harmless(word: str) -> bool:
    if word.startswith("__") and word.endswith("__"):
        return word in PLAIN_DUNDERS
    return READS.search(word) is None


def _words(node: ast.AST) -> Iterator[str]:
    """The names that a part of the text uses, the imported ones included."""
    if isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, ast.Attribute):
        yield node.attr
    elif isinstance(node, ast.ImportFrom):
        yield from (alias.name for alias in node.names)
        yield from (node.module or "").split(".")[1:]
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "__" in node.value:
        yield "__text__"  # as in "{0.__globals__}".format(function)
    elif isinstance(node, ast.Import):
        yield from (part for alias in node.names for part in alias.name.split(".")[1:])


def _imported(node: ast.AST) -> Iterator[str]:
    """The modules that it imports; "" for one of its own package, whose files are looked at themselves."""
    if isinstance(node, ast.ImportFrom):
        yield "graphflow" if node.level else node.module or ""
    elif isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
