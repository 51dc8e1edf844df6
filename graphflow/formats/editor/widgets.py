"""The widgets of a node: which of its inputs have one, in which order, and what the file has stored for them.

`widgets_values` is a list by place. It holds more than the inputs of the API format: what the editor does with a seed
after a run, the upload button. And what is there depends on what is chosen: a dynamic choice brings inputs of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..object_info import InputInfo, NodeInfo, read_inputs
from .document import EditorNode

__all__ = ["Widget", "has_widget", "inputs_with", "read_widgets", "stored_widgets", "without_null"]

DYNAMIC_CHOICE, DYNAMIC_GROUP, AUTOGROW = "COMFY_DYNAMICCOMBO_V3", "COMFY_DYNAMICGROUP_V3", "COMFY_AUTOGROW_V3"
WIDGET_TYPES = frozenset(
    [
        "INT",
        "FLOAT",
        "BOOLEAN",
        "STRING",
        "COMBO",
        "COLOR",
        "MARKDOWN",
        "TEXTAREA",
        "BOUNDING_BOX",
        "BOUNDING_BOXES",
        "CURVE",
        "RANGE",
        "PAINTER",
        "COMPOSITOR",
        "COLORS",
        "CHART",
        "GALLERIA",
        "IMAGECOMPARE",
        "VIDEO_EDIT",
        "RESOLUTION_PREVIEW",
        "LIGHT_INFO_PREVIEW",
        DYNAMIC_CHOICE,
        DYNAMIC_GROUP,
    ]
)
UPLOADS = ("image_upload", "video_upload", "animated_image_upload")
EMPTY = {"INT": 0, "FLOAT": 0, "BOOLEAN": False, "STRING": "", "IMAGECOMPARE": ["", ""]}
MAX_ROWS = 1000
CONTROL_MODES = ("fixed", "increment", "decrement", "randomize")


@dataclass(frozen=True, slots=True)
class Widget:
    """A widget with its value. One that is not `sent` is stored, but it is not an input of the API format."""

    info: InputInfo
    value: Any = None
    sent: bool = True

    @property
    def name(self) -> str:
        return self.info.name


def has_widget(item: InputInfo) -> bool:
    """Whether the editor shows a widget for this input; otherwise it is a socket only."""
    return _has_widget_type(item) and not item.options.get("forceInput")


def _has_widget_type(item: InputInfo) -> bool:
    kind = _widget_type(item)
    return kind in WIDGET_TYPES or kind.startswith("LOAD_3D")


def _widget_type(item: InputInfo) -> str:
    kind = item.options.get("widgetType")
    return kind if isinstance(kind, str) else item.type


def read_widgets(
    info: NodeInfo, node: EditorNode, pushed: Mapping[str, Any], *, prefer_named: bool = False
) -> list[Widget]:
    """All widgets of a node in their order, with the values that the file has for them, or their defaults.

    `pushed` are values by name that win over the stored ones: a primitive node has set them, or the subgraph that
    this node is in. The editor reads stored values by place even where it has also stored them by name;
    `prefer_named` reads them by name first.
    """
    named = dict(node.named or {}) if prefer_named else {}
    if isinstance(node.values, dict):
        if prefer_named or info.is_foreign:
            named = {**node.values, **named}
        values: list[Any] = []
    else:
        values = node.values or []
    if info.name == "CustomCombo":
        return _custom_choice({**named, **pushed}, values)
    found, used = _assign(info, values, named, pushed, old=False)
    if any(_has_widget_type(item) and not has_widget(item) for item in info.inputs):
        # Editors before 1.16 stored something for inputs that are sockets by decree, too.
        older, used_then = _assign(info, values, named, pushed, old=True)
        if len(values) == used_then != used:
            return older
    return found


def stored_widgets(info: NodeInfo, values: Mapping[str, Any]) -> list[Widget]:
    """The widgets that the editor stores for a node with these values: what `read_widgets` reads, to be written."""
    if info.name == "CustomCombo":
        return _custom_choice(values, [])
    found, _ = _assign(info, [], {}, values, old=False)
    return [item for item in found if _widget_type(item.info) != "IMAGECOMPARE"]


def inputs_with(info: NodeInfo, values: Mapping[str, Any]) -> list[InputInfo]:
    """All inputs of a node with these values: with those that a dynamic choice brings, and that have grown."""
    found = []
    waiting = deque(info.inputs)
    while waiting:
        item = waiting.popleft()
        if item.type == AUTOGROW:
            grown = [name for name in values if name.startswith(item.name + ".")]
            found += [InputInfo(name, _grown_type(item), required=False) for name in grown]
            continue
        found.append(item)
        if has_widget(item):
            waiting.extendleft(reversed(_inner(item, values.get(item.name, _default(item)))))
    return found


def _grown_type(item: InputInfo) -> str:
    template = item.options.get("template")
    groups = template.get("input") if isinstance(template, Mapping) else None
    inputs = read_inputs(groups) if isinstance(groups, Mapping) else ()
    return inputs[0].type if inputs else "*"


def _assign(
    info: NodeInfo, values: list[Any], named: Mapping[str, Any], pushed: Mapping[str, Any], old: bool
) -> tuple[list[Widget], int]:
    """The widgets and how many stored values they take."""
    found: list[Widget] = []
    waiting = deque(_with_upload(info))
    at = 0
    while waiting:
        item, sent = waiting.popleft()
        if not has_widget(item):
            at += old and _has_widget_type(item)
            continue
        stored = at < len(values)
        value = values[at] if stored else None
        at += 1
        if item.name in pushed:
            value = pushed[item.name]
        elif item.name in named:
            value = named[item.name]
        elif not stored:
            value = _default(item)
        if value is None and item.name not in pushed:
            value = "" if item.options.get("multiline") else without_null(item, value)
        # A choice that has neither a stored value nor an option has no value: the editor leaves it out.
        left_out = item.type == DYNAMIC_GROUP or (item.type == "COMBO" and value is None and not stored)
        found.append(Widget(item, _mended(info, item, value), sent and not left_out))
        # Behind a seed that a choice brings, editors store a control, or none.
        is_stored = "." not in item.name or at >= len(values) or values[at] in CONTROL_MODES
        waiting.extendleft(reversed([(extra, False) for extra in _controls(item) if is_stored]))
        waiting.extendleft(reversed([(inner, True) for inner in _inner(item, value)]))
    return found, at


def _with_upload(info: NodeInfo) -> Iterator[tuple[InputInfo, bool]]:
    """The inputs, and the upload button as if it were the last required one."""
    required = [item for item in info.inputs if item.required]
    yield from ((item, True) for item in required)
    if any(_uploads(item) for item in required):
        yield InputInfo("upload", "COMBO", {"default": "image"}), False
    yield from ((item, True) for item in info.inputs if not item.required)


def _uploads(item: InputInfo) -> bool:
    if item.type == "COMBO" and any(item.options.get(key) for key in UPLOADS):
        return True
    return item.name == "audio" and bool(item.options.get("audio_upload"))


def _controls(item: InputInfo) -> list[InputInfo]:
    """The control that the editor stores behind a seed (and behind some choices): how it changes after a run."""
    stated = item.options.get("control_after_generate")
    control = InputInfo("control_after_generate", "COMBO", {"default": "fixed"})
    if item.type == "INT" and (stated or (stated is None and item.name in ("seed", "noise_seed"))):
        return [control]
    if item.type == "COMBO" and stated:
        return [control, InputInfo("control_filter_list", "STRING")]
    return []


def _inner(item: InputInfo, value: Any) -> list[InputInfo]:
    """The inputs that a dynamic choice brings by what is chosen, or a group by its number of rows."""
    if item.type == DYNAMIC_CHOICE:
        for option in _dicts(item.options.get("options")):
            if option.get("key") == value:
                return _prefixed(item.name, option.get("inputs"))
    if item.type == DYNAMIC_GROUP and type(value) is int:
        template = item.options.get("template")
        return [each for row in range(min(value, MAX_ROWS)) for each in _prefixed(f"{item.name}.{row}", template)]
    return []


def _prefixed(prefix: str, groups: Any) -> list[InputInfo]:
    inputs = read_inputs(groups) if isinstance(groups, Mapping) else ()
    return [replace(inner, name=f"{prefix}.{inner.name}") for inner in inputs]


def without_null(item: InputInfo, value: Any) -> Any:
    """A choice that is stored as null is its first option."""
    return _first(item) if value is None and item.type in ("COMBO", DYNAMIC_CHOICE) else value


def _default(item: InputInfo) -> Any:
    if "default" in item.options:
        return item.options["default"]
    if item.type in ("COMBO", DYNAMIC_CHOICE):
        return _first(item)
    if item.type == DYNAMIC_GROUP:
        return item.options.get("min", 0)
    return EMPTY.get(_widget_type(item))


def _first(item: InputInfo) -> Any:
    options = item.options.get("options")
    if not isinstance(options, list) or not options:
        return None
    return options[0].get("key") if isinstance(options[0], Mapping) else options[0]


def _mended(info: NodeInfo, item: InputInfo, value: Any) -> Any:
    """Old files name samplers `sample_euler`."""
    if item.name == "sampler_name" and info.name in ("KSampler", "KSamplerAdvanced") and isinstance(value, str):
        return value.removeprefix("sample_")
    return value


def _custom_choice(named: Mapping[str, Any], values: list[Any]) -> list[Widget]:
    """A choice out of options that the user has written: stored are the choice, its number, the options, an empty one.

    The number is always counted anew.
    """
    choice = named.get("choice", values[0] if values else None)
    options = [named[name] for name in _option_names(named)] or list(values[2:])
    index = options.index(choice) if choice in options else -1
    found = [Widget(InputInfo("choice", "COMBO"), choice), Widget(InputInfo("index", "INT"), index)]
    return found + [Widget(InputInfo(f"option{at}", "STRING"), text) for at, text in enumerate(options, 1)]


def _option_names(values: Mapping[str, Any]) -> list[str]:
    numbers = sorted(int(name[6:]) for name in values if name.startswith("option") and name[6:].isdecimal())
    return [f"option{number}" for number in numbers if f"option{number}" in values]


def _dicts(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []
