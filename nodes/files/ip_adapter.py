"""IP-Adapters in files: which kind one is, and its tensors.

| `image_proj.` has | kind | sees of the image |
|---|---|---|
| `proj.weight` | `base` | one projected vector, 4 tokens |
| `latents` | `plus` | the states before the last layer, 16 tokens |
| `proj.3.weight` | `full` | the same, one token for each |

`ip_adapter.N.to_k_ip.weight` and `to_v_ip.weight` are keys and values of the tokens, N = 1, 3, 5 ...
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from graphflow import GraphFlowError, Handle, Problem

from .header import Header, read_header
from .tensors import TensorReader

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["IPAdapterFile", "open_ip_adapter", "read_tensors"]

IMAGE, LAYER = "image_proj.", "ip_adapter."


@dataclass(frozen=True, slots=True)
class IPAdapterFile(Handle):
    """Known by its content."""

    path: str
    digest: str
    kind: str
    width: int
    """Of the vectors that it takes of an image encoder."""
    text: int
    """Of its tokens: the columns of the U-Net's cross attention."""
    layers: int

    def identity(self) -> list[str]:
        return ["ip_adapter", self.digest]


def open_ip_adapter(path: Path, digest: str) -> IPAdapterFile:
    """Raises a Problem where the file is not an IP-Adapter that can run."""
    header = read_header(path)
    kind, width = _kind(header)
    names = [name for name in header.tensors if name.startswith(LAYER) and name.endswith(".to_k_ip.weight")]
    if not kind or not names:
        raise GraphFlowError([_unknown(path, header)])
    return IPAdapterFile(str(path), digest, kind, width, header.tensors[names[0]].shape[1], len(names))


def read_tensors(file: IPAdapterFile) -> tuple[dict[str, Tensor], list[tuple[Tensor, Tensor]]]:
    """The tensors of the image's projection, without their prefix; and (keys, values) of each layer, in their order."""
    header = read_header(Path(file.path))
    with TensorReader(header) as reader:
        image = {
            name.removeprefix(IMAGE): reader.get(name).float().clone()
            for name in header.tensors
            if name.startswith(IMAGE)
        }
        numbers = sorted({int(name.split(".")[1]) for name in header.tensors if name.startswith(LAYER)})
        layers = [
            (
                reader.get(f"{LAYER}{number}.to_k_ip.weight").float().clone(),
                reader.get(f"{LAYER}{number}.to_v_ip.weight").float().clone(),
            )
            for number in numbers
        ]
    return image, layers


def _kind(header: Header) -> tuple[str, int]:
    shapes = {name.removeprefix(IMAGE): info.shape for name, info in header.tensors.items() if name.startswith(IMAGE)}
    if any("to_q_lora" in name for name in header.tensors):
        return "", 0
    if "proj.weight" in shapes:
        return "base", shapes["proj.weight"][1]
    if "latents" in shapes and "proj_in.weight" in shapes:
        return "plus", shapes["proj_in.weight"][1]
    if "proj.3.weight" in shapes and "perceiver_resampler.proj_in.weight" not in shapes:
        return "full", shapes["proj.0.weight"][1]
    return "", 0


def _unknown(path: Path, header: Header) -> Problem:
    is_face = any("to_q_lora" in name or "perceiver_resampler" in name for name in header.tensors)
    if is_face:
        return Problem(
            "face_id",
            f"{path.name} is an IP-Adapter FaceID, which sees faces by InsightFace",
            hint="its models may not be used commercially, and it does not run here: use a Plus Face adapter",
        )
    return Problem(
        "unknown_model",
        f"{path.name} is not an IP-Adapter of Stable Diffusion 1.x or XL",
        hint=f"look what it is: graphflow identify {path.name}",
    )
