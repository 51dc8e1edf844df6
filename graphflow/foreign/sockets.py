"""An Input of an entry of INPUT_TYPES, or of a description in /object_info: `["INT", {"default": 1, "min": 0}]`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..nodetype.inputs import LITERAL_TYPES, OPTIONAL, REQUIRED, Input
from ..nodetype.types import Choice, Grow, Match, Range, Rows, Variants
from ..settings import Settings

__all__ = ["read_group", "read_input", "type_name"]

_LOWEST, _HIGHEST = -(2**63), 2**64 - 1
_KNOWN = {
    "default",
    "min",
    "max",
    "step",
    "multiline",
    "lazy",
    "forceInput",
    "tooltip",
    "rawLink",
    "options",
    "template",
}
_DYNAMIC = ("COMFY_DYNAMICCOMBO_V3", "COMFY_AUTOGROW_V3", "COMFY_DYNAMICGROUP_V3", "COMFY_MATCHTYPE_V3")


def read_input(
    name: str,
    spec: Any,
    required: bool,
    every: bool = False,
    again: Callable[[Settings], Any] | None = None,
) -> Input:
    """`again(settings)` gives the spec anew, because the choices of some list folders."""
    text, listed, options = _parts(spec)
    rest = {key: value for key, value in options.items() if key not in _KNOWN and _is_json(value)}
    default = options.get("default", REQUIRED) if required else OPTIONAL
    if not required and "default" in options and _is_json(options["default"]):
        rest["default"] = options["default"]
    common: dict[str, Any] = {
        "name": name,
        "every": every,
        "lazy": bool(options.get("lazy") or options.get("rawLink")),
        "raw": bool(options.get("rawLink")),
        "help": str(options.get("tooltip") or ""),
        "options": rest,
        "socket": bool(options.get("forceInput")),
        "multiline": bool(options.get("multiline")),
    }
    if text == "COMBO":
        free = bool(options.get("multi_select") or options.get("remote"))
        return Input(type=text, default=_first(default, listed), choice=_choice(listed, again), free=free, **common)
    if text in _DYNAMIC:
        return _dynamic(text, options, default, common)
    limits = None
    if text in ("INT", "FLOAT") and ("min" in options or "max" in options or "step" in options):
        limits = Range(options.get("min", _LOWEST), options.get("max", _HIGHEST), options.get("step"))
    seed = text == "INT" and (bool(options.get("control_after_generate")) or name in ("seed", "noise_seed"))
    free = text not in LITERAL_TYPES and "," not in text
    return Input(type=text, default=default, range=limits, seed=seed, free=free, **common)


def read_group(groups: Mapping[str, Any], every: bool = False) -> dict[str, Input]:
    """`{"required": {...}, "optional": {...}}`"""
    return {
        name: read_input(name, spec, group == "required", every)
        for group in ("required", "optional")
        for name, spec in dict(groups.get(group) or {}).items()
    }


def type_name(kind: Any) -> str:
    """The name of a socket type. Some packs make a text that is unequal to nothing; it means any type."""
    if isinstance(kind, (list, tuple)):
        return "COMBO"
    if not isinstance(kind, str):
        return str(getattr(kind, "io_type", "*"))
    if type(kind) is not str and not kind != "such a type is not there":  # noqa: SIM202 (the point is its own !=)
        return "*"
    return str.__str__(getattr(kind, "value", kind))


def _parts(spec: Any) -> tuple[str, list[Any], dict[str, Any]]:
    """(the name of the type, what a choice chooses from, options) of `(type, {...})`, `([...], {...})`, or a bare type.

    A type of a pack is never compared before `type_name` has read it: some are equal to everything.
    """
    kind, *more = spec if isinstance(spec, (tuple, list)) and len(spec) else (spec or "*",)
    options = dict(more[0]) if more and isinstance(more[0], Mapping) else {}
    text = type_name(kind)
    listed = (kind if isinstance(kind, (list, tuple)) else options.get("options") or ()) if text == "COMBO" else ()
    return text, [_plain(option) for option in listed], options


def _plain(option: Any) -> Any:
    """Members of an enumeration of texts are the texts, as JSON has them."""
    return str.__str__(getattr(option, "value", option)) if isinstance(option, str) else option


def _dynamic(kind: str, options: Mapping[str, Any], default: Any, common: dict[str, Any]) -> Input:
    template = options.get("template") or {}
    if kind == "COMFY_MATCHTYPE_V3":
        match = Match(str(template.get("template_id", "")), type_name(template.get("allowed_types", "*")))
        return Input(type=match.allowed, default=default, match=match, **common)
    if kind == "COMFY_DYNAMICCOMBO_V3":
        variants = Variants(
            {str(option["key"]): read_group(option.get("inputs") or {}) for option in options.get("options", ())}
        )
        first = next(iter(variants.options), REQUIRED)
        choice = Choice(tuple(variants.options))
        return Input(
            type="COMBO", default=first if default is REQUIRED else default, choice=choice, variants=variants, **common
        )
    if kind == "COMFY_AUTOGROW_V3":
        inner = template.get("input") or {}
        grow = Grow(
            read_group(inner),
            str(template.get("prefix", "")),
            int(template.get("min", 1)),
            int(template.get("max", 100)),
            tuple(template.get("names", ())),
            optional=not inner.get("required"),
        )
        return Input(type="*", default=default, grow=grow, **common)
    rows = Rows(
        read_group(template.get("inputs") or template.get("input") or {}),
        int(template.get("min", 0)),
        int(template.get("max", 100)),
    )
    return Input(type="*", default=default, rows=rows, **common)


def _choice(options: Sequence[Any], again: Callable[[Settings], Any] | None) -> Choice:
    """Asked anew each time if it may list a folder: what holds anything but texts does not."""
    if again is None or not all(isinstance(option, str) for option in options):
        return Choice(tuple(options))
    return Choice(lambda settings: _parts(again(settings))[1])


def _first(default: Any, options: Sequence[Any]) -> Any:
    """A choice that states no default takes its first option, as its widget does."""
    return options[0] if default is REQUIRED and options else _plain(default)


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return False
    return True
