"""The cost of a run before it starts, from the headers of its files: what is loaded, in which number format, how much
memory at the peak, what takes turns, and how many passes the denoiser makes. As if nothing came from the cache.

Weights are counted exactly: elements times the bytes of the device's number format, and what stays packed as it lies in
the file. The memory that a network needs while it computes is estimated (`work.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from graphflow import GraphFlowError, Problem, Settings
from graphflow.spi import Bound

from ..devices.device import numerics_of
from ..devices.machine import memory_of_machine, weights_budget
from ..devices.sizes import cost_of_sharing, size_of_passes
from ..model.handles import Model, WeightsHandle
from .foreseen import VIDEO, Foreseen, concerned, foresee
from .kits.speech import head_of, speaker_of
from .ltx2_audio import LTX2_AUDIO
from .photomaker import place_of_trigger
from .weight_bytes import format_of, weight_bytes
from .work import ImageSize, decoder_work, denoiser_work

__all__ = ["Cost", "Load", "Stage", "cost_of"]

USUAL = ImageSize(1024, 1024)
"""Where the size of an image shows only in the run."""
CALLS = {
    "heun": 2,
    "dpm_2": 2,
    "dpm_2_ancestral": 2,
    "dpmpp_2s_ancestral": 2,
    "dpmpp_2s_ancestral_cfg_pp": 2,
    "dpmpp_sde": 2,
    "dpmpp_sde_gpu": 2,
    "exp_heun_2_x0": 2,
    "exp_heun_2_x0_sde": 2,
    "seeds_2": 2,
    "seeds_3": 3,
    "sa_solver_pece": 2,
}
"""Samplers that ask the denoiser more than once a step."""
SURE = 0.75
"""The share of estimated memory that a run is refused for."""
SEEING = {"PHOTOMAKER": "identity", "CLIP_VISION": "vision", "STYLE_MODEL": "style"}
"""Wire types of networks that see images for a prompt or a model -> their part. Their own work is small."""
WRITERS = frozenset({"TextGenerate", "TextGenerateLTX2Prompt"})


@dataclass(frozen=True, slots=True)
class Load:
    """One part of a model in memory."""

    part: str
    file: str
    format: str
    """As it is held: `bfloat16`, `fp8 (packed)` ..."""
    bytes: int


@dataclass(frozen=True, slots=True)
class Stage:
    """The work of one node."""

    node: str
    title: str
    parts: tuple[int, ...]
    """Places in `Cost.loads` of what it uses at the same time."""
    work: int
    """Bytes while it computes, besides the weights."""
    passes: int = 0
    """Of the denoiser."""
    rows: int = 0
    """Of one pass."""
    size_known: bool = True
    """Whether the size of its image stands in the graph; else `work` is that of a usual one."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of a whole run."""

    device: str
    budget: int
    """Bytes that weights may hold on the device."""
    memory: int
    """Bytes of the machine."""
    loads: tuple[Load, ...] = ()
    stages: tuple[Stage, ...] = ()
    peak: int = 0
    """Bytes on the device at the most."""
    at: str = ""
    """The node whose work is the peak."""
    takes_turns: bool = False
    """Parts leave the device before others come."""
    sizes_known: bool = True
    problems: tuple[Problem, ...] = field(default=(), repr=False)
    pass_costs: Mapping[int, float] | None = field(default=None, repr=False)
    """The calculated cost of a row in passes that so many runs share, see `graphflow.RunCost`."""

    @property
    def passes(self) -> int:
        return sum(stage.passes for stage in self.stages)

    def to_json(self) -> dict[str, Any]:
        found = asdict(self)
        del found["pass_costs"]
        return {**found, "passes": self.passes, "problems": [problem.to_json() for problem in self.problems]}

    def lines(self) -> list[str]:
        """For people."""
        if not self.loads:
            return ["no models are loaded"]
        width = max(len(load.file) for load in self.loads)
        found = [f"{load.file:{width}}  {load.part:14} {load.format:18} {_size(load.bytes):>9}" for load in self.loads]
        found += [
            f"{stage.title}: {stage.passes} passes of {stage.rows} row{'s' if stage.rows != 1 else ''}"
            for stage in self.stages
            if stage.passes
        ]
        turns = ", parts take turns" if self.takes_turns else ""
        found.append(
            f"at the peak {_size(self.peak)} on {self.device} ({self.at}){turns}; models may hold {_size(self.budget)}"
        )
        if not self.sizes_known:
            found.append(
                f"the size of an image shows only in the run: counted as {USUAL.width} x {USUAL.height} pixels"
            )
        return found


def cost_of(order: Mapping[str, Bound], settings: Settings, found: Foreseen | None = None) -> Cost:
    """The cost of the bound nodes of a graph, in topological order; `found` is what `foresee` gave for them."""
    whole, order = order, concerned(order)
    if not order:
        return Cost(device="", budget=0, memory=0)
    sizes = _sizes(whole)
    numerics = numerics_of(settings)
    memory = memory_of_machine()
    budget = settings.memory if settings.memory is not None else weights_budget(memory)
    counted = _Counted(found or foresee(order, settings), numerics.kind, numerics.dtype, settings)
    stages = [stage for node_id, node in order.items() for stage in counted.stages(node_id, node, sizes)]
    loads = tuple(counted.loads)
    peak, at, turns = _peak(loads, stages, budget)
    problems = tuple(_too_large(loads, stages, memory, numerics.dtype))
    return Cost(
        device=numerics.kind,
        budget=budget,
        memory=memory,
        loads=loads,
        stages=tuple(stages),
        peak=peak,
        at=at,
        takes_turns=turns,
        sizes_known=counted.sizes_known,
        problems=problems,
        pass_costs=counted.pass_costs,
    )


class _Counted:
    def __init__(self, found: Foreseen, kind: str, dtype: str, settings: Settings) -> None:
        self.found, self.kind, self.dtype, self.together = found, kind, dtype, settings.together
        self.is_split = settings.cfg_split
        self.loads: list[Load] = []
        self.pass_costs: dict[int, float] | None = None
        self.sizes_known = True
        self._places: dict[Any, int] = {}

    def stages(self, node_id: str, node: Bound, sizes: Mapping[str, ImageSize | None]) -> Iterator[Stage]:
        kinds = {output.type for output in node.type.outputs}
        title, found = node.type.display_name, self.found
        clips = [clip for _, clip in found.inputs(node, "CLIP") if clip is not None]
        if clips and ("CONDITIONING" in kinds or node.type.name in WRITERS):
            yield Stage(node_id, title, self._texts(clips[0], node.type.name in WRITERS), 0)
        for type, part in SEEING.items():
            seeing = found.only(node, type)
            if seeing is not None and not (type == "PHOTOMAKER" and _names_nobody(node)):
                yield Stage(node_id, title, self._parts(seeing, part), 0)
        model = found.model_of(node)
        if model is not None and "LATENT" in kinds:
            yield self._sampling(node_id, node, model, self._before(node, sizes))
        vae = found.only(node, "VAE")
        if vae is not None and vae.family is LTX2_AUDIO:
            if "AUDIO" in kinds:  # its own work is small
                yield Stage(node_id, title, self._parts(vae, "vae"), 0)
                yield Stage(node_id, title, self._parts(vae, "vocoder"), 0)
        elif vae is not None and ("IMAGE" in kinds or "LATENT" in kinds):
            stated = self._before(node, sizes) if "IMAGE" in kinds else sizes.get(node_id)
            work = decoder_work(vae, self._known(stated), self._itemsize(vae, "vae"))
            yield Stage(node_id, title, self._parts(vae, "vae"), work, size_known=stated is not None)

    def _sampling(self, node_id: str, node: Bound, model: Model, stated: ImageSize | None) -> Stage:
        size = self._known(stated)
        steps = node.literals.get("steps")
        calls = CALLS.get(str(node.literals.get("sampler_name")), 1)
        guided = node.literals.get("cfg", 2.0) != 1.0 and "negative" in node.links
        format = model.latent
        rows = (1 if format.frames_are_batch else size.batch) * (2 if guided else 1)
        at_once, cells = -(-rows // 2) if self.is_split else rows, size.cells(format)
        one = size_of_passes(at_once, cells, self.together, self.kind)
        known = self.pass_costs or {}
        shared = cost_of_sharing(at_once, cells, self.kind)
        self.pass_costs = {**known, **{number: max(ratio, known.get(number, 0.0)) for number, ratio in shared.items()}}
        controls = [
            control
            for _, prompt in self.found.inputs(node, "CONDITIONING")
            if prompt is not None
            for control in prompt.controls
        ]
        parts = self._parts(model, "denoiser")
        for control in dict.fromkeys(controls):
            parts += self._parts(control, "denoiser")
        work = denoiser_work(model, size, one, self._itemsize(model, "denoiser"))
        passes = -(-rows // one) * calls * steps if isinstance(steps, int) else 0
        return Stage(node_id, node.type.display_name, parts, work, passes, one, stated is not None)

    def _texts(self, clip: WeightsHandle, writes: bool) -> tuple[int, ...]:
        names = [part for part, _ in clip.sources if part.startswith("text.")]
        parts = tuple(place for part in names for place in self._parts(clip, part))
        if writes:
            try:
                speaker_of(clip)  # type: ignore[arg-type]
                head = head_of(clip)  # type: ignore[arg-type]
            except GraphFlowError:
                head = None
            parts += self._parts(head, "head") if head is not None else ()
        return parts

    def _parts(self, handle: WeightsHandle, part: str) -> tuple[int, ...]:
        format = format_of(handle, part, self.dtype)
        key = (handle.weights_key(part), format)
        if key not in self._places:
            self._places[key] = len(self.loads)
            name = Path(handle.source(part).path).name
            bytes, packed = weight_bytes(handle, part, self.dtype)
            self.loads.append(Load(part, name, f"{packed} (packed)" if packed else format, bytes))
        return (self._places[key],)

    def _itemsize(self, handle: WeightsHandle, part: str) -> int:
        return 4 if format_of(handle, part, self.dtype) == "float32" else 2

    @staticmethod
    def _before(node: Bound, sizes: Mapping[str, ImageSize | None]) -> ImageSize | None:
        """The size of the latent that a node takes; None where it is not known."""
        links = (link for name, link in node.links.items() if node.inputs[name].type == "LATENT")
        return next((sizes.get(link.node) for link in links), None)

    def _known(self, size: ImageSize | None) -> ImageSize:
        if size is None:
            self.sizes_known = False
        return size or USUAL


def _sizes(order: Mapping[str, Bound]) -> dict[str, ImageSize | None]:
    """The pixels of the images whose latents nodes give, as far as they stand in the graph."""
    found: dict[str, ImageSize | None] = {}
    for node_id, node in order.items():
        links = {name: link for name, link in node.links.items() if node.inputs[name].type in ("LATENT", "IMAGE")}
        first = links.get(VIDEO, next(iter(links.values()), None))
        before = found.get(first.node) if first is not None else None
        width, height, length = (node.literals.get(name) for name in ("width", "height", "length"))
        batch = node.literals.get("batch_size", node.literals.get("video_frames"))
        factor = node.literals.get("scale_by")
        if isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0:
            count = batch if isinstance(batch, int) else before.batch if before is not None else 1
            frames = length if isinstance(length, int) and length > 0 else before.frames if before is not None else 1
            found[node_id] = ImageSize(width, height, count, frames)
        elif before is not None and isinstance(factor, int | float):
            sides = round(before.width * factor), round(before.height * factor)
            found[node_id] = ImageSize(*sides, before.batch, before.frames)
        else:
            found[node_id] = before
    return found


def _names_nobody(node: Bound) -> bool:
    """Whether a prompt has no place for who is on an image: it is encoded as any other then."""
    text = node.literals.get("text")
    return isinstance(text, str) and place_of_trigger(text) is None


def _peak(loads: tuple[Load, ...], stages: list[Stage], budget: int) -> tuple[int, str, bool]:
    """(bytes, at which node, whether parts took turns): what is in use stays, what was used longest ago leaves."""
    held: list[int] = []
    peak, at, turns = 0, "", False
    for stage in stages:
        needed = sum(loads[place].bytes for place in stage.parts)
        held = [place for place in held if place not in stage.parts]
        while held and needed + sum(loads[place].bytes for place in held) > budget:
            held.pop(0)
            turns = True
        held += stage.parts
        total = sum(loads[place].bytes for place in held) + stage.work
        if total > peak:
            peak, at = total, stage.title
    return peak, at, turns


def _too_large(loads: tuple[Load, ...], stages: list[Stage], memory: int, dtype: str) -> Iterator[Problem]:
    """Stages that no order and no turns could fit into the machine."""
    for stage in stages:
        work = int(stage.work * SURE) if stage.size_known else 0
        needed = sum(loads[place].bytes for place in stage.parts) + work
        if needed > memory and stage.parts:
            largest = max((loads[place] for place in stage.parts), key=lambda load: load.bytes)
            yield Problem(
                "too_large",
                f"it needs {_size(needed)} of memory, {_size(largest.bytes)} of them for {largest.file} in "
                f"{largest.format}, and this machine has {_size(memory)}",
                node=stage.node,
                title=stage.title,
                hint=_way_out(largest, stage, dtype),
            )


def _way_out(largest: Load, stage: Stage, dtype: str) -> str:
    if stage.size_known and stage.work > largest.bytes:
        return "make a smaller image or batch, or decode in tiles (VAEDecodeTiled)"
    ways = []
    if largest.format == "float32":
        ways.append(f"--dtype bfloat16 takes {_size(largest.bytes // 2)} for it")
    if "packed" not in largest.format:
        quarter = largest.bytes // (4 if largest.format == "float32" else 2)
        ways.append(f"its fp8 or int8 file, which stays packed, about {_size(quarter)}")
        if largest.part == "denoiser":
            ways.append("so does UNETLoader's weight_dtype fp8_e4m3fn")
    else:
        ways.append("a file with fewer bits (GGUF Q4, nvfp4) or a smaller model")
    return "; ".join(ways)


def _size(bytes: int) -> str:
    if bytes >= 10**9:
        return f"{bytes / 10**9:.1f} GB"
    return f"{bytes / 10**6:.0f} MB" if bytes >= 10**7 else f"{bytes / 10**6:.1f} MB"
