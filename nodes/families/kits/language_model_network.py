"""Language models as text encoders at work: how one is built, and the states of one of its layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import (
    Gemma2Config,
    Gemma2Model,
    Gemma3TextConfig,
    Gemma3TextModel,
    LlamaConfig,
    LlamaModel,
    Ministral3Config,
    Ministral3Model,
    MistralConfig,
    MistralModel,
    Qwen3Config,
    Qwen3Model,
)
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm

from ...model.config import Config
from .unet_network import plain

__all__ = ["build", "embeddings_and_layers", "every_layer", "layers_of", "layers_side_by_side", "states"]

OWN = ("kind", "file_format")
"""The entries of our configs that are not arguments of a class."""
_CLASSES: dict[str, tuple[Any, Any]] = {
    "qwen3": (Qwen3Config, Qwen3Model),
    "qwen3_06b": (Qwen3Config, Qwen3Model),
    "mistral3": (MistralConfig, MistralModel),
    "ministral3": (Ministral3Config, Ministral3Model),
    "llama": (LlamaConfig, LlamaModel),
    "gemma3": (Gemma3TextConfig, Gemma3TextModel),
}


def build(config: Config) -> torch.nn.Module:
    """An empty language model, without the layer that gives words."""
    arguments = {name: value for name, value in plain(config).items() if name not in OWN}
    return _gemma2(config, arguments) if config.kind == "gemma2" else _plain(config.kind, arguments)


def _plain(kind: str, arguments: dict[str, Any]) -> torch.nn.Module:
    config_class, model_class = _CLASSES[kind]
    stated = config_class(**{**arguments, "attn_implementation": "sdpa"})
    with torch.device("meta"):
        module: Any = model_class(stated)
    module.rotary_emb = type(module.rotary_emb)(config=stated)  # computed, never in files
    if kind == "gemma3":
        _scale_words(module, stated.hidden_size)
    built: torch.nn.Module = module
    return built


def _gemma2(config: Config, arguments: dict[str, Any]) -> torch.nn.Module:
    # ComfyUI does not cap the scores of attention, and its images are what prompts are written for.
    stated = Gemma2Config(**{**arguments, "attn_logit_softcapping": None, "attn_implementation": "eager"})
    with torch.device("meta"):
        module = Gemma2Model(stated)
    module.rotary_emb = type(module.rotary_emb)(config=stated)
    _scale_words(module, stated.hidden_size)
    format = getattr(torch, config.file_format)
    for name, inner in list(module.named_modules()):
        if isinstance(inner, Gemma2RMSNorm):
            parent, _, last = name.rpartition(".")
            with torch.device("meta"):
                made = _Norm(len(inner.weight), inner.eps, format)
            setattr(module.get_submodule(parent), last, made)
    return module


def _scale_words(module: torch.nn.Module, width: int) -> None:
    """Gemma's vectors of words are multiplied by the root of their width: a number that no file holds."""
    module.get_submodule("embed_tokens").register_buffer("embed_scale", torch.tensor(width**0.5), persistent=False)


class _Norm(Gemma2RMSNorm):
    r"""RMS norm with a weight stored around 0: :math:`y = (1 + w) \, x / \sqrt{\mathrm{mean}(x^2) + \epsilon}`.

    1 + w is rounded to the number format of the file, as ComfyUI computes it: half a thousandth of each state
    otherwise.
    """

    def __init__(self, dim: int, eps: float, format: torch.dtype) -> None:
        super().__init__(dim, eps=eps)
        self.format = format

    def forward(self, x: Tensor) -> Tensor:
        given = x.float()
        found = given * torch.rsqrt(given.pow(2).mean(-1, keepdim=True) + self.eps)
        return (found * (1.0 + self.weight.to(self.format)).float()).type_as(x)


@torch.inference_mode()
def states(module: Any, ids: Sequence[int], layer: int, tokens: int | None = None) -> Tensor:
    """The states [T, D] of a layer for the tokens `ids`, float32 on the CPU.

    `layer` counts from the end: -1 is the last, through the final norm; -2 the one before it, without. `tokens` is how
    many of `ids` are seen by the others; the rest is padding.
    """
    found = _all_states(module, ids, tokens)
    return found[layer if -layer <= len(found) else -1][0].float().cpu()


@torch.inference_mode()
def layers_side_by_side(module: Any, ids: Sequence[int], layers: Sequence[int], tokens: int) -> Tensor:
    """The states [T, layers D] of several layers for the tokens `ids`, float32 on the CPU; 0 are the embeddings.

    Those of the last layer are taken before the final norm: files may be cut off behind the last layer that is asked.
    """
    return torch.cat(list(layers_of(module, ids, layers, tokens)), dim=-1)


@torch.inference_mode()
def layers_of(module: Any, ids: Sequence[int], layers: Sequence[int], tokens: int | None = None) -> Tensor:
    """The states [layers, T, D] of several layers, float32 on the CPU: as `layers_side_by_side`."""
    last: list[Tensor] = []
    hook = module.norm.register_forward_pre_hook(lambda norm, given: last.append(given[0]))
    try:
        found = [*_all_states(module, ids, tokens)[:-1], *last]
    finally:
        hook.remove()
    return torch.stack([found[layer][0] for layer in layers]).float().cpu()


@torch.inference_mode()
def embeddings_and_layers(module: Any, ids: Sequence[int]) -> Tensor:
    """The states [1 + layers, T, D] of the tokens `ids`: their embeddings, then those behind each layer, the last
    through the final norm; in the module's number format, on its device."""
    return torch.cat(list(_all_states(module, ids, None)))


@torch.inference_mode()
def every_layer(module: Any, ids: Sequence[int], tokens: int) -> Tensor:
    """The states [layers, T, D] behind each layer, the last through the final norm; float32 on the CPU."""
    return torch.cat(list(_all_states(module, ids, tokens)[1:])).float().cpu()


def _all_states(module: Any, ids: Sequence[int], tokens: int | None) -> Sequence[Tensor]:
    given = torch.tensor([list(ids)], device=module.device)
    mask = None
    if tokens is not None:
        mask = (torch.arange(len(ids), device=module.device) < tokens)[None].long()
    answer = module(input_ids=given, attention_mask=mask, output_hidden_states=True, use_cache=False)
    found: Sequence[Tensor] = answer.hidden_states
    return found
