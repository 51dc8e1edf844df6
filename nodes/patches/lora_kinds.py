r"""What each kind of LoRA does to a weight W [out, in, ...], in float32. s is the strength, r the rank, a = alpha / r
(or 1).

| kind | W' |
|---|---|
| LoRA, LoCon (arXiv 2106.09685) | :math:`W + s a \, up \, down` |
| LoCon with `mid` (Tucker) | :math:`W + s a \sum up_{or} mid_{rtxy} down_{ti}` |
| LoHa (arXiv 2108.06098) | :math:`W + s a \, (w_1^a w_1^b) \odot (w_2^a w_2^b)` |
| LoKr (arXiv 2309.14859) | :math:`W + s a \, w_1 \otimes w_2`; alpha counts only where a factor is low-rank |
| DoRA (arXiv 2402.09353) | :math:`V = W + a \, up \, down`, :math:`W + s (m V / n - W)` |
| GLoRA (arXiv 2306.07967) | :math:`W + s a \, (b_2 b_1 + W a_2 a_1)` |
| OFT (arXiv 2306.07280) | :math:`W_k + s^2 (R_k^T W_k - W_k)` for blocks of outputs, R from the file by Cayley's map |
| BOFT (arXiv 2311.06243) | :math:`W + s (R^{(m)} \cdots R^{(1)} W - W)`, each factor turns other groups of outputs |
| difference, norm | :math:`W + s \, diff`; `set_weight` stands for W whatever s |

In DoRA n is the norm of the rows of the *stored* W where m has a number for each output (as ComfyUI computes it), of V
where the file is PEFT's, and of the columns of V where m has a number for each input. That s counts twice in OFT is
ComfyUI's way, too; at a strength of 1 all agree.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .lora_shapes import kind_of

__all__ = ["changed_bias", "changed_weight", "low_rank"]

Tensors = Mapping[str, Tensor]
"""Role (`up`, `alpha` ...) -> the numbers of the file."""
EPSILON = torch.finfo(torch.float32).eps


def changed_weight(tensors: Tensors, weight: Tensor, strength: float, rows: tuple[int, int] | None = None) -> Tensor:
    """W' of W, float32, of its shape. With `rows`, W is that part of the tensor that the file changes."""
    numbers = {role: tensor.float() for role, tensor in tensors.items()}
    kind = kind_of(numbers)
    if kind == "OFT":
        return _rotated(numbers, weight, strength)
    if kind == "bias":
        return weight
    if "set_weight" in numbers:
        return _cut(numbers["set_weight"], rows).reshape(weight.shape)
    if kind == "GLoRA":
        a1, a2, b1, b2 = (numbers[role] for role in ("a1", "a2", "b1", "b2"))
        flat = weight.flatten(1)
        delta = _cut(b2.flatten(1) @ b1.flatten(1), rows) + flat @ a2.flatten(1) @ a1.flatten(1)
        return weight + strength * _scale(numbers, a1.shape[0]) * delta.reshape(weight.shape)
    delta = _cut(_delta(kind, numbers), rows).reshape(weight.shape)
    for role in ("dora_scale", "magnitude"):
        if role in numbers:
            return _normed(weight, delta, numbers[role], strength, rows, stored=role == "dora_scale")
    return weight + strength * delta


def changed_bias(tensors: Tensors, bias: Tensor, strength: float, rows: tuple[int, int] | None = None) -> Tensor:
    """The bias with what a file adds to it (`diff_b`, `b_norm`)."""
    for role in ("diff_b", "b_norm"):
        if role in tensors:
            bias = bias + strength * _cut(tensors[role].float(), rows).reshape(bias.shape)
    return bias


def low_rank(tensors: Tensors) -> tuple[Tensor, Tensor] | None:
    """up [out, r] and down [r, in, ...], float32, a in `up`, of a module that is a sum of the two alone; else None."""
    if kind_of(tensors) != "LoRA" or not {"up", "down"} <= set(tensors) <= {"up", "down", "mid", "alpha"}:
        return None
    numbers = {role: tensor.float() for role, tensor in tensors.items()}
    up, down = numbers["up"], numbers["down"]
    scaled = up.flatten(1) * _scale(numbers, down.shape[0])
    if "mid" in numbers:
        down = torch.einsum("rtxy,ti->rixy", numbers["mid"], down.flatten(1))
    return scaled, down


def _cut(whole: Tensor, rows: tuple[int, int] | None) -> Tensor:
    return whole if rows is None else whole[slice(*rows)]


def _scale(numbers: Tensors, rank: int) -> float:
    return float(numbers["alpha"]) / rank if "alpha" in numbers else 1.0


def _delta(kind: str, numbers: Tensors) -> Tensor:
    """The change at strength 1, [out, ...]."""
    if kind == "LoRA":
        up, down = numbers["up"], numbers["down"]
        scale = _scale(numbers, down.shape[0])
        if "mid" in numbers:
            return scale * torch.einsum("or,rtxy,ti->oixy", up.flatten(1), numbers["mid"], down.flatten(1))
        return scale * (up.flatten(1) @ down.flatten(1))
    if kind == "LoHa":
        factors = [_through(numbers.get(f"hada_t{n}"), numbers[f"hada_w{n}_a"], numbers[f"hada_w{n}_b"]) for n in "12"]
        return _scale(numbers, numbers["hada_w1_b"].shape[0]) * factors[0] * factors[1]
    if kind == "LoKr":
        return _kronecker(numbers)
    return next(numbers[role] for role in ("diff", "w_norm") if role in numbers)


def _through(core: Tensor | None, a: Tensor, b: Tensor) -> Tensor:
    """a b; with a Tucker core t: the sum of t_ijxy, b_jr and a_ip over i and j, [p, r, x, y]."""
    if core is None:
        return a.flatten(1) @ b.flatten(1)
    return torch.einsum("ijxy,jr,ip->prxy", core, b, a)


def _kronecker(numbers: Tensors) -> Tensor:
    rank, factors = 0, []
    for n in "12":
        whole = numbers.get(f"lokr_w{n}")
        if whole is None:
            a, b = numbers[f"lokr_w{n}_a"], numbers[f"lokr_w{n}_b"]
            rank = b.shape[0]
            core = numbers.get("lokr_t2") if n == "2" else None
            whole = _through(core, a, b) if core is not None else (a @ b.flatten(1)).reshape(len(a), *b.shape[1:])
        factors.append(whole)
    one, two = factors
    if two.dim() == 4:
        one = one[:, :, None, None]
    return torch.kron(one, two.contiguous()) * (_scale(numbers, rank) if rank else 1.0)


def _normed(
    weight: Tensor, delta: Tensor, magnitude: Tensor, strength: float, rows: tuple[int, int] | None, stored: bool
) -> Tensor:
    """DoRA. `stored`: the norms of rows are those of the weight without the change."""
    moved = weight + delta
    axes = [1] * (weight.dim() - 1)
    outputs = weight.shape[0] if rows is None else magnitude.shape[0]
    if magnitude.shape[0] == outputs and magnitude.numel() == outputs:
        magnitude = _cut(magnitude.reshape(-1), rows).reshape(-1, *axes)
        norm = (weight if stored else moved).flatten(1).norm(dim=1).reshape(-1, *axes)
    else:
        others = moved.transpose(0, 1)
        norm = others.flatten(1).norm(dim=1).reshape(1, -1, *axes[1:])
        magnitude = magnitude.reshape(1, -1, *axes[1:])
    changed: Tensor = weight + strength * (moved * (magnitude / (norm + EPSILON)) - weight)
    return changed


def _rotated(numbers: Tensors, weight: Tensor, strength: float) -> Tensor:
    blocks = numbers["oft_blocks"] if "oft_blocks" in numbers else numbers["oft_diag"]
    bound = float(numbers["alpha"]) if "alpha" in numbers else 0.0
    factors = blocks if blocks.dim() == 4 else blocks[None]
    side, moved = factors.shape[-1], weight.flatten(1)
    for level, factor in enumerate(factors):
        turn = _rotation(factor, bound)
        # Rows i, i + 2^level b/2, ... are turned together; the first factor turns rows that lie side by side.
        apart = 2**level * side // 2 if blocks.dim() == 4 else 0
        order = _grouped(len(moved), side, apart).to(moved.device)
        blocked = moved[order].reshape(-1, side, *moved.shape[1:])
        turned = torch.einsum("kab,kbc->kac" if apart else "kab,kac->kbc", turn, blocked).flatten(0, 1)
        moved = torch.empty_like(turned).index_copy_(0, order, turned)
    if "rescale" in numbers:
        moved = moved * numbers["rescale"].reshape(-1, 1)
    return weight + (strength if blocks.dim() == 4 else strength**2) * (moved.reshape(weight.shape) - weight)


def _rotation(blocks: Tensor, bound: float) -> Tensor:
    """Cayley's map of each block [n, b, b]; with a bound above 0 the norm of all blocks together is at most that."""
    skew = blocks - blocks.transpose(1, 2)
    norm = float(skew.norm())
    if bound > 0 and norm > bound:
        skew = skew * (bound / norm)
    one = torch.eye(blocks.shape[-1], dtype=blocks.dtype, device=blocks.device)
    turned: Tensor = (one + skew) @ torch.linalg.inv(one - skew)
    return turned


def _grouped(count: int, side: int, apart: int) -> Tensor:
    """The order of rows in which those that are turned together follow each other (BOFT's butterfly)."""
    rows = torch.arange(count)
    if apart == 0:
        return rows
    return rows.reshape(-1, 2, apart).transpose(1, 2).reshape(-1)
