"""The pool of the loaders before families: goes with them."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from threading import RLock
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch

from graphflow import GraphFlowError, Problem

from ..families import load
from ..families.handles import Clip, Model, Source, Vae
from .batcher import Ask, Batcher, Call

__all__ = ["Pool"]

T = TypeVar("T")
DEFAULT_BUDGET = 12 << 30
BATCH_MEMORY = 2 << 30
"""Bytes for one shared forward pass where the device does not say what is free."""
ROW_FACTOR = 40
"""Memory of a U-Net's forward pass for each row, in tensors of its widest level (channels x height x width), about."""


class Pool:
    """Thread-safe. A part is keyed by the digest of its file, so the same weights under two names load once."""

    def __init__(self, device: str = "cpu", budget: int = DEFAULT_BUDGET) -> None:
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise GraphFlowError([Problem("no_device", "torch finds no CUDA device", hint="set GRAPHFLOW_DEVICE=cpu")])
        self.budget = budget
        self.device = torch.device(device)
        self._parts: OrderedDict[tuple[str, str], tuple[Any, int]] = OrderedDict()
        self._batchers: WeakKeyDictionary[torch.nn.Module, dict[torch.Size, Batcher]] = WeakKeyDictionary()
        self._lock = RLock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="graphflow-device")

    def run(self, call: Callable[..., T], *arguments: Any) -> T:
        """Let the one thread of the device make a call; what it calls must not call `run` itself.

        A numeric library keeps a team of helpers for each thread that computes. Two teams on the same cores wait for each
        other, and all of them get two to three times slower.
        """
        return self._thread.submit(call, *arguments).result()

    def unet(self, handle: Model) -> Any:
        return self._get(handle.source, "unet", lambda: load.load_unet(handle.source))

    def seat(self, unet: Any, shape: torch.Size, call: Call) -> AbstractContextManager[Ask]:
        """A place among the samplers that ask this U-Net about latents of a `shape` [C,h,w]; see Batcher."""
        with self._lock:
            batchers = self._batchers.setdefault(unet, {})
            if shape not in batchers:
                clock = time.thread_time if self.device.type == "cpu" else time.perf_counter
                batchers[shape] = Batcher(self._thread, self._rows_that_fit(unet, shape), clock)
            return batchers[shape].seat(call)

    def _rows_that_fit(self, unet: Any, shape: torch.Size) -> int:
        free = torch.cuda.mem_get_info(self.device)[0] // 2 if self.device.type == "cuda" else BATCH_MEMORY
        row = ROW_FACTOR * unet.config.block_out_channels[0] * shape[-2] * shape[-1] * unet.dtype.itemsize
        return max(1, int(free // row))

    def vae(self, handle: Vae) -> Any:
        return self._get(handle.source, "vae", lambda: load.load_vae(handle.source))

    def text_encoder(self, handle: Clip) -> tuple[Any, Any]:
        """(tokenizer, text model)"""
        encoder = self._get(handle.source, "text", lambda: load.load_text_encoder(handle.source))
        tokenizer = self._get(handle.source, "tokenizer", lambda: load.load_tokenizer(handle.source))
        return tokenizer, encoder

    def _get(self, source: Source, name: str, make: Callable[[], Any]) -> Any:
        key = (source.digest, name)
        with self._lock:
            if key not in self._parts:
                part = self.run(make)
                if source.has_changed():
                    raise GraphFlowError([Problem("file_changed", f"{Path(source.path).name} changed while the run went on",
                                                  hint="run the workflow again")])  # fmt: skip
                size = 0
                if isinstance(part, torch.nn.Module):
                    part = self.run(part.to, self.device).eval().requires_grad_(False)
                    size = sum(weight.nbytes for weight in part.parameters())
                self._parts[key] = (part, size)
                while sum(held for _, held in self._parts.values()) > self.budget and len(self._parts) > 1:
                    self._parts.popitem(last=False)
            self._parts.move_to_end(key)
            return self._parts[key][0]
