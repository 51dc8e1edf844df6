"""Where model files are. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from graphflow import GraphFlowError, Problem, did_you_mean
from graphflow.spi import walk_once

from .diffusers_folder import INDEXES, denoisers_to_name, is_diffusers, is_of_pipeline
from .extra_paths import extra_paths
from .weight_file import ENDINGS, is_hidden, is_pickled

__all__ = ["BUILTIN", "KINDS", "ModelFolders", "models_below"]

BUILTIN = Path(__file__).parents[1] / "builtin"
ADAPTERS = BUILTIN.with_name("builtin_adapters")
"""The adapters of the built-in model: a folder for each kind (`loras` ...)."""
KINDS: Mapping[str, tuple[str, ...]] = {
    "checkpoints": ("checkpoints", "diffusers"),
    "diffusers": ("diffusers",),
    "diffusion_models": ("diffusion_models", "unet"),
    "text_encoders": ("text_encoders", "clip"),
    "controlnet": ("controlnet", "t2i_adapter"),
    "vae": ("vae",),
    "vae_approx": ("vae_approx",),
    "loras": ("loras",),
    "embeddings": ("embeddings",),
    "clip_vision": ("clip_vision",),
    "style_models": ("style_models",),
    "upscale_models": ("upscale_models",),
    "latent_upscale_models": ("latent_upscale_models",),
    "model_patches": ("model_patches",),
    "ipadapter": ("ipadapter",),
    "photomaker": ("photomaker",),
    "gligen": ("gligen",),
    "hypernetworks": ("hypernetworks",),
    "background_removal": ("background_removal",),
    "perceptual": ("perceptual", "lpips"),
}
"""Kind of model -> the sub-folders of a models folder in which it is looked for, in this order: ComfyUI's names. Of the
kind `diffusers` only pipeline folders are listed."""

WHOLE = ("checkpoints", "diffusers")
"""Kinds of whole models."""


class ModelFolders:
    """Roots with ComfyUI's sub-folders (checkpoints, vae, loras ...); the built-in models are found last.

    A root may hold an `extra_model_paths.yaml`, as ComfyUI reads it: folders elsewhere that are searched after its own.
    """

    def __init__(self, roots: Sequence[Path], pickles: bool = True) -> None:
        """`pickles`: whether checkpoints that `torch.save` wrote may be found."""
        self.roots = list(roots)
        self._pickles = pickles

    def places(self, kind: str) -> list[Path]:
        """The folders in which models of a kind are looked for."""
        names = KINDS.get(kind, (kind,))
        places = [root / name for root in self.roots for name in names]
        for root in self.roots:
            extra = extra_paths(root)
            places += [place for name in names for place in extra.get(name, ()) if place not in places]
        return [*places, BUILTIN if kind == "checkpoints" else ADAPTERS / kind]

    def _found(self, kind: str) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for place in self.places(kind):
            for path in sorted(models_below(place)):
                if kind == "diffusers" and not is_of_pipeline(path):
                    continue
                found.setdefault(path.relative_to(place).as_posix(), path)
        return found

    def list(self, kind: str) -> list[str]:
        """Names of the models of a kind, each once: paths relative to their folder."""
        return sorted(self._found(kind))

    def find(self, kind: str, name: str) -> Path:
        """The path of a listed model; nothing that is not listed can be named. Raises GraphFlowError."""
        found = self._found(kind)
        if name not in found:
            places = ", ".join(str(place) for place in self.places(kind))
            hint = did_you_mean(name, found) or f"looked in {places}"
            raise GraphFlowError([Problem("no_model", f"there is no {kind} file {name!r}", hint=hint)])
        if not self._pickles:
            _refuse_pickles(found[name], name, _MAY_BE_PICKLES if kind in WHOLE else _CHECKPOINTS)
        return found[name]


def _refuse_pickles(path: Path, name: str, endings: frozenset[str]) -> None:
    """Refuse a pickle with one of these endings. Upscalers, embeddings and other small models in other folders are
    published as `.pth`, `.pt` and `.bin` and as nothing else; none of their code runs, and they are taken."""
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        try:
            refused = file.is_file() and file.suffix.lower() in endings and is_pickled(file)
        except OSError:  # who reads it reports why it cannot be read
            continue
        if refused and not (path.is_dir() and any(file.parent.glob("*.safetensors"))):
            text = f"{name} is a pickle, as torch.save writes it; such checkpoints are not taken here"
            hint = "use a .safetensors file of the model, or start the server with --allow-pickles"
            raise GraphFlowError([Problem("pickled_model", text, hint=hint)])


_MAY_BE_PICKLES = frozenset(ENDINGS) - {".gguf"}
_CHECKPOINTS = frozenset({".ckpt"})
_CONFIGS = frozenset({*INDEXES, "config.json"})


def models_below(place: Path) -> Iterator[Path]:
    """Files with weights, diffusers folders, which are one model each, and the denoisers of folders that hold several.
    Links are followed, as users keep large files elsewhere; hidden files and folders are not models."""
    for name, folders, files in walk_once(place):
        folder = Path(name)
        if folder != place and not _CONFIGS.isdisjoint(files) and is_diffusers(folder):
            parts = (part for part in folders if (folder / part / "config.json").is_file())
            inner = [folder / part for part in denoisers_to_name(parts)] if "config.json" not in files else []
            folders.clear()
            yield from (folder, *inner)
            continue
        folders[:] = [inner for inner in folders if not is_hidden(inner)]
        named = (folder / file for file in files if file.lower().endswith(ENDINGS) and not is_hidden(file))
        yield from (path for path in named if path.exists())  # a link may lead nowhere
