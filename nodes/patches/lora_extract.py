r"""A LoRA of the difference of two models: the best one of its rank, by singular values (Eckart and Young 1936).

.. math:: D \approx U_r \, \Sigma_r^{1/2} \cdot \Sigma_r^{1/2} V_r^T
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..files.load import WeightReader
from ..model.handles import WeightsHandle
from .lora import parts_of
from .lora_keys import DENOISER

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["extracted"]


def extracted(
    difference: WeightsHandle, rank: int | None, with_bias: bool, check: Callable[[], None]
) -> dict[str, Tensor]:
    """The tensors of a LoRA file by kohya's names, float32; `rank` None keeps whole differences. Weights of 0 are left
    out.

    `check` is called now and then, and may raise where the run is to stop.
    """
    found: dict[str, Tensor] = {}
    texts = [part for part in difference.family.parts if part.startswith("text.")]
    for part in parts_of(difference):
        reader = WeightReader(difference, part)
        number = str(texts.index(part) + 1) if len(texts) > 1 and part != DENOISER else ""
        prefix = "lora_unet_" if part == DENOISER else f"lora_te{number}_"
        for name in reader.shapes:
            check()
            module, _, kind = name.rpartition(".")
            change = reader.read(name)
            if kind not in ("weight", "bias") or not bool(change.any()):
                continue
            if part != DENOISER and not module.startswith("text_model.") and module != "text_projection":
                module = f"text_model.{module}"
            key = prefix + module.replace(".", "_")
            if kind == "bias" or change.dim() < 2:
                if with_bias:
                    found[f"{key}.diff{'_b' if kind == 'bias' else ''}"] = change.contiguous()
            elif rank is None:
                found[f"{key}.diff"] = change.contiguous()
            else:
                up, down = _best(change, rank)
                found[f"{key}.lora_up.weight"], found[f"{key}.lora_down.weight"] = up, down
    return found


def _best(change: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """up [out, r(, 1, 1)], down [r, in(, k, k)]."""
    import torch

    u, sizes, v = torch.linalg.svd(change.flatten(1), full_matrices=False)
    rank = min(rank, len(sizes))
    root = sizes[:rank].sqrt()
    up, down = u[:, :rank] * root, root[:, None] * v[:rank]
    if change.dim() == 4:
        return up[:, :, None, None].contiguous(), down.view(rank, *change.shape[1:]).contiguous()
    return up.contiguous(), down.contiguous()
