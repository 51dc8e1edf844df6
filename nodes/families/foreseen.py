"""What will be on the links of a graph, from the headers of the files that it names: nothing is loaded or run.

A loader gives a handle, which names files and holds no weights; so a loader is simply called, with digests that read
nothing. Behind it, a node of this library that takes a model and gives one gives that model; a conditioning is known by
the text encoders that made it, a latent by the model or the VAE. What packs of others do is not known, and what is not
known is not judged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from graphflow import Blocked, GraphFlowError, Settings
from graphflow.spi import Bound, Digests

from ..model.handles import Clip, ClipVision, ControlNet, Model, PhotoMaker, StyleModel, Vae, WeightsHandle
from ..model.latent import LatentFormat

__all__ = ["ForeseenLatent", "ForeseenPrompt", "Foreseen", "concerned", "file_of", "foresee"]

H = TypeVar("H", bound=WeightsHandle)
HANDLES: Mapping[str, type[WeightsHandle]] = {
    "MODEL": Model,
    "CLIP": Clip,
    "VAE": Vae,
    "CONTROL_NET": ControlNet,
    "PHOTOMAKER": PhotoMaker,
    "CLIP_VISION": ClipVision,
    "STYLE_MODEL": StyleModel,
}
"""Wire type -> what is on it; loaders give these."""
FORESEEN = frozenset({*HANDLES, "CONDITIONING", "LATENT", "GUIDER", "HOOKS"})
VIDEO, SOUND = "video_latent", "audio_latent"
"""The parts of a latent that is both; the whole is judged as its video, and the sound alone is not judged."""
HOOKED = frozenset({"HOOKS", "CLIP", "CONDITIONING"})
"""Wire types that carry hooks."""


@dataclass(frozen=True, slots=True)
class ForeseenPrompt:
    """A conditioning."""

    clips: tuple[Clip, ...]
    """The text encoders that made it."""
    controls: tuple[ControlNet, ...] = ()
    has_references: bool = False
    vision: ClipVision | None = None
    """The image encoder that made it, where no text encoder did."""


@dataclass(frozen=True, slots=True)
class ForeseenLatent:
    """A latent that is not empty: its format, and the file of the model or VAE that makes it."""

    format: LatentFormat
    maker: str


@dataclass(frozen=True, slots=True)
class ForeseenGuider:
    """What a sampler of parts asks."""

    model: Model


class Foreseen:
    """By node and output."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, int], Any] = {}
        self._lacking: dict[tuple[str, int], str] = {}
        self._hooks: dict[str, tuple[str, ...]] = {}

    def hooks_of(self, node: Bound) -> tuple[str, ...]:
        """The nodes that made the hooks on what a node takes: those of LoRAs, which the model that is asked gets."""
        links = [link for name, link in node.links.items() if node.inputs[name].type in HOOKED]
        return tuple(dict.fromkeys(maker for link in links for maker in self._hooks.get(link.node, ())))

    def put_hooks(self, node_id: str, node: Bound) -> None:
        if node.literals.get("apply_to_conds") is False:  # they change the text encoders alone
            return
        made = "lora_name" in node.literals and any(output.type == "HOOKS" for output in node.type.outputs)
        own = (node_id,) if made and node.literals.get("strength_model") != 0.0 else ()
        if hooks := (*self.hooks_of(node), *own):
            self._hooks[node_id] = hooks

    def put(self, node_id: str, slot: int, value: Any) -> None:
        if isinstance(value, Blocked):
            self._lacking[node_id, slot] = value.message or ""
        elif value is not None:
            self._values[node_id, slot] = value

    def lacking(self, node: Bound) -> Iterator[tuple[str, str]]:
        """(name, message) of the inputs for which a loader has nothing: its file lacks that part."""
        for name, link in node.links.items():
            message = self._lacking.get((link.node, link.slot))
            if message:
                yield name, message

    def inputs(self, node: Bound, type: str) -> Iterator[tuple[str, Any]]:
        """(name, what will be there or None) of the linked inputs of a wire type."""
        for name, link in node.links.items():
            if node.inputs[name].type == type:
                yield name, self._values.get((link.node, link.slot))

    def only(self, node: Bound, type: str) -> Any:
        """What will be on the one input of a wire type; None where there are several, or it is not known."""
        found = [value for _, value in self.inputs(node, type)]
        return found[0] if len(found) == 1 else None

    def model_of(self, node: Bound) -> Model | None:
        """The model that a sampler asks, directly or through its guider."""
        model = self.only(node, "MODEL")
        guider = self.only(node, "GUIDER")
        return model if model is not None else guider.model if guider is not None else None


def foresee(order: Mapping[str, Bound], settings: Settings) -> Foreseen:
    """The values of the links of a graph in topological order, as far as they are known."""
    found, quick = Foreseen(), replace(settings, digests=_Unread())
    for node_id, node in order.items():
        kinds = {output.type for output in node.type.outputs}
        if not kinds & FORESEEN:
            continue
        if kinds & HOOKED:
            found.put_hooks(node_id, node)
        if not node.links and kinds <= HANDLES.keys():
            for slot, value in enumerate(_loaded(node, quick)):
                found.put(node_id, slot, value)
            continue
        for slot, output in enumerate(node.type.outputs):
            found.put(node_id, slot, _made(found, node, output.type, output.name))
    return found


def concerned(order: Mapping[str, Bound]) -> dict[str, Bound]:
    """The nodes of this library that take or give models, or what models are asked with. Quick: a graph of ten thousand
    nodes that compute with numbers costs a millisecond."""
    known: dict[str, bool] = {}
    found = {}
    for node_id, node in order.items():
        name = node.type.name
        if name not in known:
            wires = {output.type for output in node.type.outputs} | {item.type for item in node.type.inputs.values()}
            known[name] = not node.type.pack and bool(wires & FORESEEN)
        if known[name]:
            found[node_id] = node
    return found


def file_of(handle: WeightsHandle) -> str:
    """The names of the files of a handle, for people."""
    names = dict.fromkeys(Path(source.path).name for part, source in handle.sources if not part.startswith("tokenizer"))
    return " and ".join(names)


class _Unread(Digests):
    """Digests of nothing: a handle that is not run needs none, and the first digest of a large file takes minutes."""

    def of(self, path: Path, watch: Any = None) -> str:
        return f"unread {path}"


def _loaded(node: Bound, settings: Settings) -> tuple[Any, ...]:
    kind = node.type
    arguments = kind.arguments(dict(node.literals))
    if kind.settings is None or kind.context is not None:
        return ()
    try:
        result = kind.function(**arguments, **{kind.settings: settings})
    except (GraphFlowError, OSError):
        return ()  # its own check reports it
    values = result if isinstance(result, tuple) else (result,)
    return tuple(value if isinstance(value, WeightsHandle | Blocked) else None for value in values)


def _made(found: Foreseen, node: Bound, type: str, name: str) -> Any:
    if type in HANDLES:
        value = next((value for _, value in found.inputs(node, type)), None)
        if node.type.name == "ModelComputeDtype" and isinstance(value, Model) and "dtype" not in node.links:
            return value.computing(str(node.literals.get("dtype", "default")))
        return value
    if type == "CONDITIONING":
        return _prompt(found, node, name)
    if type == "GUIDER":
        model = found.only(node, "MODEL")
        return ForeseenGuider(model) if model is not None else None
    if type == "LATENT":
        return _latent(found, node) if name != SOUND else None
    return None


def _prompt(found: Foreseen, node: Bound, name: str) -> ForeseenPrompt | None:
    """From the inputs of that name where there is one (`positive`, `negative`), else from all."""
    before = dict(found.inputs(node, "CONDITIONING"))
    before = {name: before[name]} if name in before else before
    clips = tuple(clip for _, clip in found.inputs(node, "CLIP"))
    if None in clips or None in before.values() or not (clips or before):
        return None if clips or before else _of_image(found, node)
    earlier: list[ForeseenPrompt] = list(before.values())
    control = found.only(node, "CONTROL_NET")
    return ForeseenPrompt(
        clips=tuple(dict.fromkeys((*clips, *(clip for one in earlier for clip in one.clips)))),
        controls=(*(each for one in earlier for each in one.controls), *((control,) if control is not None else ())),
        has_references=_adds_references(node) or any(one.has_references for one in earlier),
        vision=next((one.vision for one in earlier if one.vision is not None), None),
    )


def _of_image(found: Foreseen, node: Bound) -> ForeseenPrompt | None:
    """Of a model that is asked with an image in place of a text."""
    vision = found.only(node, "CLIP_VISION")
    return ForeseenPrompt((), vision=vision) if vision is not None else None


def _adds_references(node: Bound) -> bool:
    names = node.links.keys()
    if node.type.name == "ReferenceLatent":
        return "latent" in names
    return (
        node.type.name.startswith("TextEncode") and "vae" in names and any(name.startswith("image") for name in names)
    )


def _latent(found: Foreseen, node: Bound) -> ForeseenLatent | None:
    model = found.model_of(node)
    if model is not None:
        return ForeseenLatent(model.latent, file_of(model))
    vae = found.only(node, "VAE")
    if vae is not None:
        return ForeseenLatent(vae.latent, file_of(vae))
    inputs = dict(found.inputs(node, "LATENT"))
    return inputs[VIDEO] if VIDEO in inputs else next(iter(inputs.values()), None)
