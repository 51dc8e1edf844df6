"""Which modules of a model a LoRA file changes: by the names that trainers write, the tables of the family, and shapes.

A name in a file is a prefix (which network), a module, and the name of one of the module's tensors. Trainers name
modules as diffusers does or as the original code did, with dots or with underscores. So a table is made from the
model's own names and the family's converter tables (one for each layout), with underscores for dots; a new family needs
only its tables. Where a file's name stands for a fused tensor (q, k and v in one), its change is cut into the rows of
each parameter.

Works on names and shapes alone: no weights are read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ..files.convert import place_of
from ..files.header import Header, read_header
from ..model.config import Config
from ..model.family import Family, part_config
from .lora_shapes import misfit

__all__ = ["DENOISER", "Fit", "LoraMatch", "LoraPlace", "fit", "modules_of"]

Shape = tuple[int, ...]
DENOISER = "denoiser"
NO_TEXT = "text."
"""The part of names that are meant for a text encoder which the family does not have."""

_LOW_RANK = (
    r"[._]lora[._]?(?:linear_layer\.)?(?:up|B)(?:\.default)?(?:\.weight)?$",
    r"[._]lora[._]?(?:linear_layer\.)?(?:down|A)(?:\.default)?(?:\.weight)?$",
)
_ROLES = tuple(
    (re.compile(pattern), role)
    for pattern, role in (
        (r"[._]lora_B(?:\.default)?\.bias$", "diff_b"),
        (_LOW_RANK[0], "up"),
        (_LOW_RANK[1], "down"),
        (r"\.lora_mid(?:\.weight)?$", "mid"),
        (r"\.lora_magnitude_vector(?:\.default)?(?:\.weight)?$", "magnitude"),
        (r"\.([ab][12])\.weight$", ""),
        (r"\.(hada_(?:w[12]_[ab]|t[12])|lokr_(?:w[12](?:_[ab])?|t2)|oft_blocks|oft_diag)$", ""),
        (r"\.(alpha|dora_scale|rescale|diff|diff_b|set_weight|w_norm|b_norm|reshape_weight)$", ""),
    )
)
"""The end of a tensor's name, and what the tensor is; "" where the name states it."""
_PREFIX = re.compile(
    r"^(?:base_model[._]model[._]|model[._]diffusion_model[._]|diffusion_model[._]|transformer[._](?!blocks)|unet[._]"
    r"|lora_unet_+|lora_transformer_|lycoris_)+"
)
_TEXT = re.compile(
    r"^(?:base_model\.model\.)?(?:lora_te(?P<number>\d?)_|text_encoder(?:_(?P<other>\d))?[._]"
    r"|text_encoders\.clip_(?P<letter>[a-z])\.(?:transformer\.)?)"
)


@dataclass(frozen=True, slots=True)
class LoraPlace:
    """A module of a network, or the rows of a fused one that it is."""

    module: str
    rows: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """The meaning of a name in a file."""

    places: tuple[LoraPlace, ...]
    shape: Shape
    """Of the weight, whole."""


@dataclass(frozen=True, slots=True)
class LoraMatch:
    """A module of a file, and what it changes."""

    name: str
    part: str
    places: tuple[LoraPlace, ...]
    roles: tuple[tuple[str, str], ...]
    """The role of a tensor (`up`, `down`, `alpha` ...) -> its name in the file."""


@dataclass(frozen=True, slots=True)
class Fit:
    """How a file fits a model."""

    matches: tuple[LoraMatch, ...]
    total: int
    """Modules of the file that are meant for these parts."""
    unknown: tuple[str, ...]
    """Modules that the model does not have."""
    misshapen: tuple[str, ...]
    """In words: modules that it has in another shape."""


def modules_of(header: Header) -> dict[str, dict[str, str]]:
    """Module -> role -> the name of its tensor. Tensors that are of no known kind are left out."""
    found: dict[str, dict[str, str]] = {}
    for name in header.tensors:
        for pattern, role in _ROLES:
            if (ending := pattern.search(name)) is not None:
                found.setdefault(name[: ending.start()], {})[role or ending[1]] = name
                break
    return {name: roles for name, roles in found.items() if set(roles) != {"alpha"}}


@lru_cache(maxsize=64)
def fit(path: str, digest: str, family: Family, config: Config, parts: tuple[str, ...]) -> Fit:
    """The changes of a LoRA file to these parts of a model (`denoiser`, `text.l` ...). Modules for other parts are not
    counted.

    `digest` is that of the file: another content gives another answer.
    """
    header = read_header(Path(path))
    shapes = {name: info.shape for name, info in header.tensors.items()}
    matches, unknown, misshapen, total = [], [], [], 0
    for name, roles in modules_of(header).items():
        part, module = _addressed(name, family)
        if part not in parts and not (part == NO_TEXT and any(one.startswith("text.") for one in parts)):
            continue
        total += 1
        target = _target(family, config, part, module) if part in parts else None
        if target is None:
            unknown.append(name)
            continue
        wrong = misfit({role: shapes[key] for role, key in roles.items()}, target.shape, len(target.places) > 1)
        if wrong is None:
            matches.append(LoraMatch(name, part, target.places, tuple(sorted(roles.items()))))
        else:
            misshapen.append(f"{name} {wrong}")
    return Fit(tuple(matches), total, tuple(unknown), tuple(misshapen))


def _addressed(name: str, family: Family) -> tuple[str, str]:
    """The part that a name is meant for, and the module in it; NO_TEXT where the family has no such text encoder."""
    found = _TEXT.match(name)
    if found is None:
        return DENOISER, _joined(_PREFIX.sub("", name))
    texts = [part for part in family.parts if part.startswith("text.")]
    module = _joined(name[found.end() :])
    if found["letter"]:
        part = f"text.{found['letter']}"
        return (part if part in texts else NO_TEXT), module
    number = int(found["number"] or found["other"] or 1) - 1
    return (texts[number] if number < len(texts) else NO_TEXT), module


def _joined(name: str) -> str:
    joined = name.replace(".", "_")
    return joined.replace("_processor_", "_")


def _target(family: Family, config: Config, part: str, module: str) -> Target | None:
    known = _targets(family, part, config)
    return known.get(module) or (known.get(f"{module}_0") if module.endswith("to_out") else None)


@lru_cache(maxsize=32)
def _targets(family: Family, part: str, config: Config) -> Mapping[str, Target]:
    """Name with underscores -> what it stands for: the network's own names, and those of all layouts of its files."""
    from ..files.load import build

    described = family.parts[part]
    module = build(described, config, part)
    shapes = {
        name.removesuffix(".weight"): tuple(weight.shape)
        for name, weight in module.named_parameters()
        if name.endswith(".weight")
    }
    found = {_joined(name): Target((LoraPlace(name),), shape) for name, shape in shapes.items()}
    for layout in described.layouts.values():
        table = layout(part_config(config, part))
        groups: dict[str, list[LoraPlace]] = {}
        for name in shapes:
            place = place_of(table, f"{name}.weight")
            if place is not None and place.form != "transposed":
                key = re.sub(r"[._]weight$", "", place.key)
                groups.setdefault(key, []).append(LoraPlace(name, place.rows))
        for key, places in groups.items():
            found.setdefault(_joined(key), Target(tuple(places), _fused(places, shapes)))
    return found


def _fused(places: list[LoraPlace], shapes: Mapping[str, Shape]) -> Shape:
    """The shape of the tensor in the file that holds these modules."""
    shape = shapes[places[0].module]
    ends = [place.rows[1] for place in places if place.rows is not None]
    return (max(ends), *shape[1:]) if ends else shape
