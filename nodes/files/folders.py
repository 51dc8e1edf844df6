"""Where model files are. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from graphflow import GraphFlowError, Problem, did_you_mean
from graphflow.spi import walk_once

__all__ = ["ModelFolders"]

BUILTIN = Path(__file__).parents[1] / "builtin"
ENDINGS = (".safetensors", ".ckpt", ".pt", ".pth")
ALIASES = {"checkpoints": ("checkpoints", "diffusers")}


class ModelFolders:
    """Roots with the field's sub-folders (checkpoints, vae, loras ...); the built-in models are found last."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self.roots = list(roots)

    def _places(self, kind: str) -> list[Path]:
        places = [root / name for root in self.roots for name in ALIASES.get(kind, (kind,))]
        return [*places, BUILTIN] if kind == "checkpoints" else places

    def _found(self, kind: str) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for place in self._places(kind):
            for path in sorted(_models_below(place)):
                found.setdefault(path.relative_to(place).as_posix(), path)
        return found

    def list(self, kind: str) -> list[str]:
        """Names of the models of a kind: paths relative to their folder."""
        return sorted(self._found(kind))

    def find(self, kind: str, name: str) -> Path:
        """The path of a listed model; nothing that is not listed can be named. Raises GraphFlowError."""
        found = self._found(kind)
        if name not in found:
            places = ", ".join(str(place) for place in self._places(kind))
            hint = did_you_mean(name, found) or f"looked in {places}"
            raise GraphFlowError([Problem("no_model", f"there is no {kind} file {name!r}", hint=hint)])
        return found[name]


def _models_below(place: Path) -> Iterator[Path]:
    """Files with weights, and diffusers folders, which are one model each. Links are followed, as users keep large files
    elsewhere."""
    for name, folders, files in walk_once(place):
        folder = Path(name)
        if folder != place and _is_diffusers(folder, files):
            folders.clear()
            yield folder
            continue
        named = (folder / file for file in files if file.endswith(ENDINGS) and not file.startswith("."))
        yield from (path for path in named if path.exists())  # a link may lead nowhere


def _is_diffusers(folder: Path, files: Sequence[str]) -> bool:
    """A whole pipeline, or one part of it by itself (a VAE)."""
    return any(name in files and (folder / name).is_file() for name in ("model_index.json", "config.json"))
