"""A diffusers folder: its configs, and the weight files of its parts. A part may be in shards, and in several
formats."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphflow import GraphFlowError, Problem

from .tensor_info import MAX_HEADER, TensorInfo, damaged, unreadable
from .weight_file import is_hidden, read_weight_file

__all__ = [
    "INDEXES",
    "DiffusersFolder",
    "denoisers_to_name",
    "is_diffusers",
    "is_of_pipeline",
    "read_config",
    "read_folder",
    "state_of_folder",
]

STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")
"""Names of weight files in the order in which they are looked for."""
_DENOISER = re.compile(r"(\w+_)?(transformer|unet)(_\d+)?")
_SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})(.*)")


@dataclass(frozen=True, slots=True)
class DiffusersFolder:
    """The content of a folder: of each part its config, its tensors as `part/name`, or the Problem with its weights.

    A folder that is one part by itself (a VAE) has the one part ``""``.
    """

    configs: Mapping[str, Mapping[str, Any]]
    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]
    broken: Mapping[str, Problem]


INDEXES = ("model_index.json", "modular_model_index.json")
"""What lists the parts of a pipeline; the second is that of modular pipelines."""


def is_diffusers(folder: Path) -> bool:
    """Whether a folder is one model: a pipeline (model_index.json), or one part with its weights (config.json)."""
    if any((folder / name).is_file() for name in INDEXES):
        return True
    return (folder / "config.json").is_file() and any(
        re.search(r"\.(safetensors|bin)(\.index(\.\w+)?\.json)?$", item.name) and not is_hidden(item.name)
        for item in folder.iterdir()
    )


def is_of_pipeline(path: Path) -> bool:
    """Whether a model is a pipeline folder, or a denoiser in one: not a part by itself, and not a file."""
    return path.is_dir() and any((folder / name).is_file() for folder in (path, path.parent) for name in INDEXES)


def denoisers_to_name(parts: Iterable[str]) -> tuple[str, ...]:
    """Of the parts of a pipeline those that a loader must name, because more than one of them is a denoiser; else none.

    Wan 2.2 A14B has `transformer` (high noise) and `transformer_2` (low noise), Ideogram 4 `transformer` and
    `unconditional_transformer`.
    """
    found = tuple(sorted(part for part in parts if _DENOISER.fullmatch(part)))
    return found if len(found) > 1 else ()


def state_of_folder(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Names, sizes and times of the files that `read_folder` may read: equal states give equal contents."""
    places = (folder, *sorted(item for item in folder.iterdir() if item.is_dir()))
    files = (
        item for place in places for item in sorted(place.iterdir()) if not is_hidden(item.name) and item.is_file()
    )
    return tuple((str(item), found.st_size, found.st_mtime_ns) for item in files for found in (item.stat(),))


def read_folder(folder: Path) -> DiffusersFolder:
    """Raises GraphFlowError where it is not a diffusers folder; what is wrong with one part stands in `broken`."""
    if not folder.is_dir() or not is_diffusers(folder):
        raise unreadable(folder, "it is not a model folder: it has no model_index.json and no config.json")
    index = next((place for name in INDEXES if (place := folder / name).is_file()), folder / INDEXES[0])
    configs: dict[str, Mapping[str, Any]] = {}
    tensors: dict[str, TensorInfo] = {}
    metadata: dict[str, str] = {}
    broken: dict[str, Problem] = {}
    if index.is_file():
        configs["model_index"] = read_config(index)
        parts = {item.name: item for item in sorted(folder.iterdir()) if item.is_dir() and not is_hidden(item.name)}
        for name in {"scheduler", "tokenizer"} & parts.keys():
            config = parts[name] / f"{name}_config.json"
            if config.is_file():
                configs[name] = read_config(config)
    else:
        parts = {"": folder}
    for name, place in parts.items():
        if not (place / "config.json").is_file():
            continue
        try:
            configs[name] = read_config(place / "config.json")
            found, notes = _weights(place)
        except GraphFlowError as error:
            broken[name] = error.problems[0]
            continue
        tensors |= {f"{name}/{key}" if name else key: info for key, info in found.items()}
        metadata |= notes
    for name, stated in configs.get("model_index", {}).items():
        is_part = isinstance(stated, list) and len(stated) == 2 and stated[0] in ("diffusers", "transformers")
        if is_part and name not in configs and name not in broken and not _is_without_weights(str(stated[1])):
            (problem,) = unreadable(folder, f"its part {name}/ is missing, or has no config.json").problems
            broken[name] = problem
    return DiffusersFolder(configs, tensors, metadata, broken)


def _is_without_weights(kind: str) -> bool:
    return any(word in kind for word in ("Scheduler", "Tokenizer", "Extractor", "Processor"))


def read_config(path: Path) -> dict[str, Any]:
    """The JSON object in a file of a diffusers folder. Raises GraphFlowError."""
    try:
        if path.stat().st_size > MAX_HEADER:
            raise unreadable(path, f"it is too large for a config, in {path.parent}")
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise unreadable(path, error.strerror or str(error)) from None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise unreadable(path, f"it is not a JSON object, in {path.parent}")
    return found


def _weights(folder: Path) -> tuple[dict[str, TensorInfo], Mapping[str, str]]:
    """The tensors of one part; raises GraphFlowError."""
    files = {item.name: item for item in sorted(folder.iterdir()) if not is_hidden(item.name)}
    candidates = [rank for name in files if (rank := _rank(name)) is not None]
    if not candidates:
        raise unreadable(folder, "it has no weights (.safetensors or .bin)", f"looked in {folder}")
    best = min(candidates)
    chosen = [path for name, path in files.items() if _rank(name) == best]
    index = next((path for path in chosen if path.name.endswith(".json")), None)
    if index is not None:
        return _sharded(index, files)
    shards = [shard for path in chosen if (shard := _SHARD.fullmatch(path.name)) is not None]
    if shards:
        count = int(shards[0][3])
        _refuse_missing(
            folder, [f"{shards[0][1]}-{n:05}-of-{count:05}{shards[0][4]}" for n in range(1, count + 1)], files
        )
    tensors: dict[str, TensorInfo] = {}
    metadata: dict[str, str] = {}
    for path in chosen:
        contents = read_weight_file(path)
        tensors |= contents.tensors
        metadata |= contents.metadata
    return tensors, metadata


def _rank(name: str) -> tuple[int, int, str, str] | None:
    """The order in which weight files or their indexes are preferred: safetensors before pickles, plain before variants
    (`fp16`).

    `NAME[.VARIANT][-00001-of-00002][.VARIANT].ENDING` or `NAME.ENDING.index[.VARIANT].json`. None: not a weight file.
    """
    index = re.fullmatch(r"(.+)\.(safetensors|bin)\.index(?:\.(\w+))?\.json", name)
    if index is not None:
        stem, ending, variant = index[1], index[2], index[3] or ""
    else:
        stem, _, ending = name.rpartition(".")
        if ending not in ("safetensors", "bin"):
            return None
        variant = ""
    stem = re.sub(r"-\d{5}-of-\d{5}", "", stem)
    stem, _, inner = stem.partition(".")
    if stem not in STEMS:
        return None
    return ("safetensors", "bin").index(ending), STEMS.index(stem), variant or inner, stem


def _sharded(index: Path, files: Mapping[str, Path]) -> tuple[dict[str, TensorInfo], Mapping[str, str]]:
    stated = read_config(index).get("weight_map")
    if not isinstance(stated, dict) or not all(isinstance(name, str) for name in stated.values()):
        raise damaged(index, "it does not state which file holds which tensor")
    names = sorted(set(stated.values()))
    _refuse_missing(index.parent, names, files)
    contents = {name: read_weight_file(files[name]) for name in names}
    tensors: dict[str, TensorInfo] = {}
    for key, name in stated.items():
        info = contents[name].tensors.get(key)
        if info is None:
            raise damaged(files[name], f"it lacks {key[:80]!r}, which {index.name} expects in it")
        tensors[key] = info
    metadata = {key: value for name in names for key, value in contents[name].metadata.items()}
    return tensors, metadata


def _refuse_missing(folder: Path, names: list[str], files: Mapping[str, Path]) -> None:
    missing = [name for name in names if name not in files or not files[name].is_file()]
    if missing:
        raise unreadable(
            folder,
            f"{len(missing)} of {len(names)} weight files are missing, {missing[0][:80]!r} for one",
            f"download it into {folder}",
        )
