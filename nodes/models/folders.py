"""Where model files are. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from graphflow import GraphFlowError, Problem, did_you_mean

__all__ = ["ModelFolders"]

BUILTIN = Path(__file__).parent / "builtin"
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
            if not place.is_dir():
                continue
            for path in sorted(place.rglob("*")):
                if self._is_model(path) and path.resolve().is_relative_to(place.resolve()):
                    found.setdefault(path.relative_to(place).as_posix(), path)
        return found

    @staticmethod
    def _is_model(path: Path) -> bool:
        if path.is_dir():
            return (path / "model_index.json").is_file() or (
                path.parent.name == "vae" and (path / "config.json").is_file()
            )
        inside = any((parent / "model_index.json").is_file() for parent in path.parents[:2])
        return path.suffix in ENDINGS and not inside

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
