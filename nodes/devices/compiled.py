"""Denoisers compiled by torch's inductor, with their weights frozen into the code: fewer, larger kernels, weights that
are packed for the processor ahead, and convolutions in fewer products (see `winograd`).

A compiled network rounds in another way than an eager one, so the form is in the recipe, is settled before a sampler's
first question and never changes in its run. Code in memory holds what it needs of the weights, beside those of the
network: it belongs to the one module that it was loaded for, and goes with it. What cannot be frozen runs eagerly:
weights that stay packed or are paged, passes with patches of calls (hooks inside compiled code would be passed over in
silence) and LoRAs that act by rows.

For a processor the code lies on disk beside the cache, without the weights (see `frozen`); for a GPU its kernels do and
the next process traces the network anew. With `auto` a run is eager, and what it asks is compiled in a thread of its
own once several runs that are alike have asked it; later runs of that kind have the compiled form (see `settle`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import import_module
from threading import Lock, Thread
from typing import Any

import torch

from graphflow import GraphFlowError, Problem

from ..files.packed import Packed
from ..model.row import Row
from .compiler import compiler_is_here
from .forward import Answers, ForwardCall, forward
from .frozen import OWN, Frozen
from .settle import code_folder, note
from .winograd import decomposed

__all__ = ["Forms", "can_be_frozen", "compiled", "forms_of"]

SEEN = 3
"""Runs that have asked a network about a shape before `auto` compiles it."""
SHAPES = 64
"""Of one class of networks that are compiled; torch gives up at eight, and computes eagerly without a word."""


@dataclass(eq=False)
class Forms:
    """Of one device: what runs under `auto` have asked, and what of it has been compiled."""

    device: torch.device
    seen: Counter[Hashable] = field(default_factory=Counter)
    ready: set[Hashable] = field(default_factory=set)
    asked: dict[bytes, set[Hashable]] = field(default_factory=dict)
    """By what runs have in common: what they ask."""
    _queue: list[tuple[Hashable, ForwardCall, Sequence[Row]]] = field(default_factory=list)
    _lock: Lock = field(default_factory=Lock)

    def saw(self, alike: bytes, call: ForwardCall, rows: Sequence[Row], size: int) -> None:
        """A run asks the eager network `call.module` about such rows, in passes of `size`. When `SEEN` runs have, it is
        compiled behind them, one network at a time."""
        if not can_be_frozen(call):
            return
        key = (call.key, size, _shapes(rows[0]))
        with self._lock:
            of_kind = self.asked.setdefault(alike, set())
            is_known = key in of_kind
            of_kind.add(key)
            self.seen[key] += 1
            if self.seen[key] != SEEN:
                if is_known:  # an earlier run has asked all that runs of this kind ask
                    self._note(alike)
                return
            filled = [*rows[:size], *[rows[-1]] * (size - len(rows))]
            self._queue.append((key, call, filled))
            if len(self._queue) > 1:  # the thread is at work
                return
        Thread(target=self._prepare, name="graphflow-compile", daemon=True).start()

    def _prepare(self) -> None:
        while True:
            with self._lock:
                key, call, rows = self._queue[0]
            try:
                forward(compiled(call), rows, self.device, lambda: False)
            except Exception:  # runs go on eagerly
                is_ready = False
            else:
                is_ready = True
            with self._lock:
                if is_ready:
                    self.ready.add(key)
                    for alike in self.asked:
                        self._note(alike)
                del self._queue[0]
                if not self._queue:
                    return

    def _note(self, alike: bytes) -> None:
        """Note runs of a kind all of whose questions are answered by compiled code. Called with the lock held."""
        if alike and self.asked[alike] <= self.ready:
            note(alike)


@cache
def forms_of(device: str) -> Forms:
    """Of this process for a device."""
    return Forms(torch.device(device))


def can_be_frozen(call: ForwardCall) -> bool:
    """Whether the network of a call can run as frozen code with the same meaning."""
    if call.is_changed or not compiler_is_here(_kind(call.module)):
        return False
    return not any(isinstance(module, Packed) for module in call.module.modules())


def compiled(call: ForwardCall) -> ForwardCall:
    """The call with the compiled form of its network, which is compiled when it is first asked about a shape.

    Passes of it raise a Problem where the network cannot be compiled.
    """
    found: Any = call.module.__dict__.get(OWN)
    if found is None:
        code_folder()
        is_for_processor = _kind(call.module) == "cpu"
        found = Frozen(call.module, _by_dynamo) if is_for_processor else _by_dynamo(call.module)
        call.module.__dict__[OWN] = found
    return replace(call, key=(call.key, "compiled"), module=found, forward=_reporting(call.forward), is_compiled=True)


def _by_dynamo(network: torch.nn.Module) -> Callable[..., Any]:
    """The form of what is not to be traced as one graph, and of GPUs: each process compiles it anew, from kernels that
    lie on disk."""
    limits: Any = torch._dynamo.config
    limits.recompile_limit = max(limits.recompile_limit, SHAPES)
    compile: Callable[..., Any] = torch.compile
    found: Callable[..., Any] = compile(network, dynamic=False, backend=_inductor)
    return found


def _inductor(graph: Any, inputs: Sequence[Any], **_: object) -> Any:
    """Torch's inductor, with 3 x 3 convolutions in fewer products where that pays."""
    compiler: Any = import_module("torch._inductor.compile_fx")
    known: Any = import_module("torch._inductor.decomposition")
    table = {**known.select_decomp_table(), torch.ops.aten.convolution.default: decomposed}
    return compiler.compile_fx(graph, inputs, decompositions=table)


def _reporting(forward: Callable[..., Answers]) -> Callable[..., Answers]:
    def reported(*arguments: Any) -> Answers:
        try:
            with _FREEZING:
                return forward(*arguments)
        except torch._dynamo.exc.TorchDynamoException as error:
            stated = str(error).strip().splitlines()
            raise GraphFlowError(
                [
                    Problem(
                        "not_compiled",
                        f"the model could not be compiled: {stated[0] if stated else type(error).__name__}",
                        hint="run it with --compile off",
                    )
                ]
            ) from error

    return reported


class _Freezing:
    """Asks inductor to freeze what is traced meanwhile. The wish is one of the whole process, and passes of two devices
    may be under way: so it ends with the last of them."""

    def __init__(self) -> None:
        self._lock, self._inside, self._before = Lock(), 0, False

    def __enter__(self) -> None:
        config: Any = import_module("torch._inductor.config")
        with self._lock:
            if self._inside == 0:
                self._before, config.freezing = config.freezing, True
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        config: Any = import_module("torch._inductor.config")
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                config.freezing = self._before


_FREEZING = _Freezing()


def _kind(module: torch.nn.Module) -> str:
    return next((weight.device.type for weight in module.parameters()), "cpu")


def _shapes(row: Row) -> Hashable:
    stacked = tuple((name, tuple(tensor.shape), str(tensor.dtype)) for name, tensor in row.stacked.items())
    ragged = tuple((name, tuple(tensor.shape)) for name, tensor in row.ragged.items())
    return stacked, ragged, row.common
