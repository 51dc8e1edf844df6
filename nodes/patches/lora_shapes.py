"""Whether the tensors of a module of a LoRA file fit a weight, by their shapes. Reads no weights and imports no
torch."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

__all__ = ["kind_of", "misfit"]

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]
KINDS = (
    ("LoRA", ("up", "down")),
    ("LoHa", ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")),
    ("LoKr", ("lokr_w1",)),
    ("LoKr", ("lokr_w1_a", "lokr_w1_b")),
    ("GLoRA", ("a1", "a2", "b1", "b2")),
    ("OFT", ("oft_blocks",)),
    ("OFT", ("oft_diag",)),
    ("difference", ("diff",)),
    ("difference", ("set_weight",)),
    ("norm", ("w_norm",)),
    ("bias", ("diff_b",)),
    ("bias", ("b_norm",)),
)
"""Kind -> the tensors that make it; the first that fits."""


def kind_of(roles: Mapping[str, object]) -> str:
    """`LoRA`, `LoHa`, `LoKr`, `GLoRA`, `OFT`, `difference`, `norm`, `bias`; "" where tensors are missing."""
    return next((kind for kind, needed in KINDS if all(role in roles for role in needed)), "")


def misfit(shapes: Shapes, weight: Shape, is_fused: bool) -> str | None:
    """The fault of a module's tensors for a weight of this shape, in words; None where they fit."""
    kind = kind_of(shapes)
    if not kind:
        return f"has only {', '.join(sorted(shapes))}"
    try:
        return _misfit(kind, shapes, weight, is_fused)
    except (IndexError, KeyError):
        return f"has tensors of shapes that no {kind} has"


def _misfit(kind: str, shapes: Shapes, weight: Shape, is_fused: bool) -> str | None:
    if any(0 in shape for shape in shapes.values()):
        return "has rank 0"
    for role in ("diff_b", "b_norm"):
        if role in shapes and prod(shapes[role]) != weight[0]:
            return f"adds {prod(shapes[role])} numbers to a bias of {weight[0]}"
    if kind == "bias":
        return None
    if "dora_scale" in shapes or "magnitude" in shapes:
        scale = shapes.get("dora_scale") or shapes["magnitude"]
        if prod(scale) not in (weight[0], prod(weight[1:]), weight[1]):
            return f"has a scale of {prod(scale)} numbers for a weight {_text(weight)}"
        if is_fused and scale[0] != weight[0]:
            return "is a DoRA over the inputs of a fused weight, which cannot be cut"
    if kind == "OFT":
        blocks = shapes.get("oft_blocks") or shapes["oft_diag"]
        count, side = blocks[-3], blocks[-1]
        if is_fused:
            return "is a rotation of a fused weight, which cannot be cut"
        return None if count * side == weight[0] else f"rotates {count * side} outputs, the model has {weight[0]}"
    found = _changed(kind, shapes)
    expected = (weight[0], prod(weight[1:]))
    if found != expected:
        return f"is for a weight {_text(found)}, the model has {_text(expected)}"
    return None


def _changed(kind: str, shapes: Shapes) -> tuple[int, int]:
    """[out, all else] of the change."""
    if kind == "LoRA":
        up, down = shapes["up"], shapes["down"]
        if "mid" in shapes:
            return up[0], down[1] * prod(shapes["mid"][2:])
        if prod(up[1:]) != down[0]:
            raise KeyError("unlike ranks")
        return up[0], prod(down[1:])
    if kind == "LoHa":
        if "hada_t1" in shapes:
            return shapes["hada_w1_a"][1], shapes["hada_w1_b"][1] * prod(shapes["hada_t1"][2:])
        return shapes["hada_w1_a"][0], prod(shapes["hada_w1_b"][1:])
    if kind == "LoKr":
        (rows, columns), (more_rows, more_columns) = _factor(shapes, "1"), _factor(shapes, "2")
        return rows * more_rows, columns * more_columns
    if kind == "GLoRA":
        return shapes["b2"][0], prod(shapes["b1"][1:])
    whole = next(shapes[role] for role in ("diff", "set_weight", "w_norm") if role in shapes)
    return whole[0], prod(whole[1:])


def _factor(shapes: Shapes, number: str) -> tuple[int, int]:
    whole = shapes.get(f"lokr_w{number}")
    if whole is not None:
        return whole[0], prod(whole[1:])
    a, b = shapes[f"lokr_w{number}_a"], shapes[f"lokr_w{number}_b"]
    if number == "2" and "lokr_t2" in shapes:
        return a[1], b[1] * prod(shapes["lokr_t2"][2:])
    return a[0], prod(b[1:])


def _text(shape: Shape) -> str:
    return f"[{', '.join(map(str, shape))}]"
