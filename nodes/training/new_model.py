"""A model with new weights, of the architecture of another: a diffusers folder in the folder for temporary files.

The architecture is read from configs, or from the shapes in a file; no weights are needed. So a folder with the
configs, the tokenizer and model_index.json of diffusers states a model that does not exist yet.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from graphflow import GraphFlowError, Problem, Settings

from ..families import recognise, recognise_vae
from ..families.kits.clip import VOCABULARY
from ..files.convert import TensorPlace, place_of
from ..files.header import read_header
from ..files.made_once import folder_once
from ..files.write_model import TensorEntry
from ..model.config import Config
from ..model.family import Family, part_config

if TYPE_CHECKING:
    from ..families.opened import Opened

__all__ = ["Architecture", "architecture_of", "new_model"]


@dataclass(frozen=True, slots=True)
class Architecture:
    """A model without weights."""

    family: Family
    vae_family: Family
    config: Config
    """Of all parts."""
    tokenizers: Mapping[str, Path]

    def with_vocabulary(self, folder: Path, tokens: int) -> Architecture:
        """With the tokenizer of a folder for all text encoders; its last two tokens begin and end a text."""
        own = {"vocab_size": tokens, "bos_token_id": tokens - 2, "eos_token_id": tokens - 1, "pad": None}
        texts = {part: self.config[part] | own for part in self.tokenizers}
        return replace(self, config=self.config | texts, tokenizers=dict.fromkeys(self.tokenizers, folder))


def architecture_of(path: Path) -> Architecture:
    """Reads no weights. Raises Problems where a part is missing, or there is no folder for the family."""
    header = read_header(path)
    recognised, vae = recognise(header), recognise_vae(header)
    if recognised is None:
        hint = "name a checkpoint, or a diffusers folder with at least its configs"
        raise _wrong(f"{path.name} states no model of a family that can run", hint)
    family, found = recognised
    from ..families.kits.pipeline_folder import PIPELINES

    if family.name not in PIPELINES:
        raise _wrong(f"new weights are made for Stable Diffusion 1.x, 2.x and XL, {path.name} is {family.title}")
    texts = PIPELINES[family.name][1]
    lacking = [folder for part, folder in texts.items() if part not in found.config] + (["vae"] if vae is None else [])
    if lacking or vae is None:
        hint = "a folder needs the config.json of each of its parts"
        raise _wrong(f"{path.name} states no {' and no '.join(lacking)}", hint)
    tokenizers = {}
    for part, folder in texts.items():
        own = header.path / folder.replace("text_encoder", "tokenizer")
        tokenizers[part] = own if header.format == "diffusers" and own.is_dir() else VOCABULARY
    return Architecture(family, vae[0], found.config | {"vae": vae[1].config}, tokenizers)


def new_model(path: Path, seed: int, settings: Settings, captions: Sequence[str] = (), vocabulary: int = 0) -> Opened:
    """The handles of a new model. It is written once for each architecture, vocabulary and seed.

    `vocabulary`: the size of one that is learnt from the captions; 0: that of the architecture.
    """
    from ..families.kits.pipeline_folder import parts_of_folder, scheduler_of, write_parts
    from ..families.opened import open_model

    found = architecture_of(path)
    if vocabulary:
        found = found.with_vocabulary(*_learnt(captions, vocabulary, settings))
    digest = sha256(repr((found.family.name, found.config.identity(), seed)).encode())
    for _, file in _vocabulary(found):
        digest.update(file.read_bytes())
    folder = settings.temp_dir / "new_models" / digest.hexdigest()[:32]

    def fill(new: Path) -> None:
        entries = {part: list(_entries(found, part, seed)) for part in ("denoiser", "vae", *found.tokenizers)}
        parts = parts_of_folder(found.family.name, found.config, entries)
        scheduler = scheduler_of(found.family.prediction(found.config))
        write_parts(new, found.family.name, parts, found.tokenizers, scheduler, {})

    return open_model(folder_once(folder, fill), settings)


def _entries(found: Architecture, part: str, seed: int) -> Iterator[TensorEntry]:
    from ..files.load import build
    from .new_weights import new_entries

    family = found.vae_family if part == "vae" else found.family
    described = family.parts[part]
    layout = "diffusers" if part in ("denoiser", "vae") else "transformers"
    config = found.config["vae"] if part == "vae" else found.config
    table = described.layouts[layout](part_config(config, part))
    for entry in new_entries(build(described, config, part), seed, part):
        yield replace(entry, name=(place_of(table, entry.name) or TensorPlace(entry.name)).key)


def _vocabulary(found: Architecture) -> Iterator[tuple[str, Path]]:
    for part, folder in sorted(found.tokenizers.items()):
        yield from ((part, file) for file in sorted(folder.iterdir()) if file.suffix in (".json", ".txt"))


def _learnt(captions: Sequence[str], size: int, settings: Settings) -> tuple[Path, int]:
    """A folder with a tokenizer of these captions, and the number of its tokens."""
    from .vocabulary import learn_vocabulary

    texts = sorted(set(captions))
    digest = sha256(json.dumps([texts, size]).encode()).hexdigest()
    folder = folder_once(
        settings.temp_dir / "vocabularies" / digest[:32], lambda new: learn_vocabulary(new, texts, size)
    )
    return folder, len(json.loads((folder / "vocab.json").read_text(encoding="utf-8")))


def _wrong(message: str, hint: str | None = None) -> GraphFlowError:
    return GraphFlowError([Problem("no_architecture", message, input="architecture", hint=hint)])
