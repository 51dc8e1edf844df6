"""The identity of a file, as a value: the answer of `identify`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["Identity", "PartSeen"]


@dataclass(frozen=True, slots=True)
class PartSeen:
    """One network in a file."""

    name: str
    """`denoiser`, `vae`, `text encoder` or `image encoder`."""
    title: str
    prefix: str
    """The prefix of its tensors in the file, or its folder and "/"."""
    parameters: int


@dataclass(frozen=True, slots=True)
class Identity:
    """`supported`: this version runs it. Otherwise it is recognised, and nothing more."""

    kind: str
    """`checkpoint`, `pipeline`, `diffusion model`, `VAE`, `text encoder`, `LoRA`, `ControlNet` ...; `unknown`."""
    family: str
    """By name; of a LoRA, a ControlNet and their like that of the models they change. "" where it does not show."""
    title: str
    """In words: "Stable Diffusion XL"."""
    variant: str = ""
    parts: tuple[PartSeen, ...] = ()
    number_format: str = ""
    parameters: int = 0
    bytes: int = 0
    container: str = ""
    """`safetensors`, `pickle`, `gguf` or `diffusers`."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """Metadata worth reading, by label."""
    details: Mapping[str, str] = field(default_factory=dict)
    """Details of the kind: rank and trainer of a LoRA."""
    missing: tuple[str, ...] = ()
    """The other parts that it needs to run."""
    folder: str = ""
    """The sub-folder of a models folder that it belongs into."""
    supported: bool = False

    def part(self, name: str) -> PartSeen | None:
        return next((part for part in self.parts if part.name == name), None)

    @property
    def words(self) -> str:
        """Kind, family and variant in a few words: "a LoRA for Stable Diffusion XL"."""
        article = "an" if self.kind[:1].lower() in "aeiu" and not self.kind.startswith("un") else "a"
        title = f"{self.title} {self.variant}" if self.variant and self.variant[0].isdigit() else self.title
        rest = f" ({self.variant})" if self.variant and title == self.title else ""
        if self.kind == "unknown":
            return "a file of an unknown kind"
        if self.kind in CHANGES:
            return f"{article} {self.kind}{f' for {title}' if title else ''}{rest}"
        between = " of" if self.kind in MODELS else ":"
        return f"{article} {self.kind}{between} {title}{rest}" if title else f"{article} {self.kind}"

    def to_json(self) -> dict[str, Any]:
        found = asdict(self)
        return {
            **found,
            "parts": [asdict(part) for part in self.parts],
            "notes": dict(self.notes),
            "details": dict(self.details),
            "missing": list(self.missing),
        }


CHANGES = frozenset(
    {
        "LoRA",
        "ControlNet",
        "Control-LoRA",
        "T2I-Adapter",
        "IP-Adapter",
        "model patch",
        "style model",
        "embedding",
        "PhotoMaker",
        "GLIGEN",
        "hypernetwork",
    }
)
"""Kinds that change models of a family, and are not models themselves."""
MODELS = frozenset({"checkpoint", "pipeline", "diffusion model"})
"""Kinds with a denoiser."""
