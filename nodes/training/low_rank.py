"""Terms beside the layers of a network: which layers get them, and how they lie on a wire and in files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from graphflow import GraphFlowError, Problem

from .terms import KINDS, Term

__all__ = ["TARGETS", "add_terms", "file_metadata", "file_tensors", "parameters_of_terms", "terms_on_wire"]

TARGETS = ("attention", "transformers", "all")
"""The layers that get terms: q, k, v and out of attentions; every Linear of the transformers; convolutions, too."""
_ATTENTION = ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out", "qkv", "out")
_INSIDE = ("transformer_blocks.", "attentions.")
_FIRST = ("layers.", "noise_refiner.", "context_refiner.")
"""How the transformers of U-Nets and of networks that are transformers are called in diffusers."""
_NEVER = ("time_", "conv_in", "conv_out", "embed", "norm_out", "proj_out")
_LORA_ENDINGS = {"down": "lora_down.weight", "up": "lora_up.weight"}
"""Role -> how kohya's trainer calls it; other roles are called as they are."""
_TEXT_INSIDE = "encoder.layers."
_TEXT_ATTENTION = (".q_proj", ".k_proj", ".v_proj", ".out_proj")
"""The layers of CLIP's text encoders, as transformers calls them."""


def add_terms(
    module: nn.Module, targets: str, rank: int, alpha: float, seed: int, algorithm: str = "LoRA", part: str = ""
) -> dict[str, Term]:
    """Put terms beside the layers of a network; by the name of the layer. `part`: of a text encoder (`text.l` ...),
    whose layers are called `PART/LAYER`."""
    found: dict[str, Term] = {}
    for name, layer in list(_text_layers(module, targets) if part else _layers(module, targets)):
        holder, _, last = name.rpartition(".")
        called = f"{part}/{name}" if part else name
        found[called] = KINDS[algorithm](layer, rank, alpha, seed, called)
        setattr(module.get_submodule(holder), last, found[called])
    return found


def parameters_of_terms(terms: Mapping[str, Term]) -> dict[str, nn.Parameter]:
    """What learns, by the names `LAYER.ROLE`."""
    return {f"{name}.{role}": weight for name, term in terms.items() for role, weight in term.learning().items()}


def _layers(module: nn.Module, targets: str) -> Iterator[tuple[str, Any]]:
    for name, layer in module.named_modules():
        is_inside = any(block in name for block in _INSIDE) or name.startswith(_FIRST)
        if isinstance(layer, nn.Linear) and is_inside:
            if targets != "attention" or name.endswith(tuple(f".{last}" for last in _ATTENTION)):
                yield name, layer
        elif targets == "all" and isinstance(layer, nn.Conv2d) and not name.startswith(_NEVER):
            yield name, layer


def _text_layers(module: nn.Module, targets: str) -> Iterator[tuple[str, Any]]:
    for name, layer in module.named_modules():
        is_attention = name.endswith(_TEXT_ATTENTION)
        if isinstance(layer, nn.Linear) and _TEXT_INSIDE in name and (is_attention or targets != "attention"):
            yield name, layer


def terms_on_wire(
    terms: Mapping[str, Term], weights: Mapping[str, Tensor], unet: bool, texts: Sequence[str] = ()
) -> dict[str, Any]:
    """A LORA_MODEL: plain values. `weights`: by `LAYER.ROLE`; `texts`: the text encoders of the family, in order."""
    layers = {
        name: term.file_roles({role: weights[f"{name}.{role}"] for role in term.learning()})
        for name, term in terms.items()
    }
    alphas = {name: term.alpha for name, term in terms.items()}
    return {"layers": layers, "alphas": alphas, "unet": unet, "texts": list(texts)}


def file_tensors(lora: Mapping[str, Any], names: str, dtype: torch.dtype) -> dict[str, Tensor]:
    """The tensors of a file, by the names of kohya's trainer or of diffusers (there alpha is a part of `up`).

    Raises a Problem where diffusers has no names for the kind.
    """
    write = _kohya if names == "kohya" else _diffusers
    tensors: dict[str, Tensor] = {}
    for layer in lora["layers"]:
        tensors |= write(lora, layer)
    return {name: tensor.to(dtype).contiguous() for name, tensor in tensors.items()}


def _kohya(lora: Mapping[str, Any], layer: str) -> dict[str, Tensor]:
    part, _, module = layer.rpartition("/")
    number = lora["texts"].index(part) + 1 if part else 0
    prefix = f"lora_te{number if len(lora['texts']) > 1 else ''}_" if part else "lora_unet_"
    key = prefix + (_text_module(module) if part else module).replace(".", "_")
    roles = {role: tensor for role, tensor in lora["layers"][layer].items() if role != "magnitude"}
    if "dora_scale" in roles:
        roles["dora_scale"] = roles["dora_scale"].reshape(-1, *(1,) * (roles["down"].dim() - 1))
    named = {f"{key}.{_LORA_ENDINGS.get(role, role)}": tensor for role, tensor in roles.items()}
    return {**named, f"{key}.alpha": torch.tensor(lora["alphas"][layer])}


def _diffusers(lora: Mapping[str, Any], layer: str) -> dict[str, Tensor]:
    one = lora["layers"][layer]
    if "down" not in one:
        message = "diffusers has no names for the tensors of a LoKr"
        raise GraphFlowError([Problem("no_names", message, input="names", hint="set names to kohya")])
    part, _, module = layer.rpartition("/")
    if part:
        number = lora["texts"].index(part) + 1
        key = f"text_encoder{f'_{number}' if number > 1 else ''}.{_text_module(module)}"
    else:
        key = f"{'unet' if lora['unet'] else 'transformer'}.{module}"
    found = {
        f"{key}.lora_A.weight": one["down"],
        f"{key}.lora_B.weight": one["up"] * (lora["alphas"][layer] / len(one["down"])),
    }
    return {**found, f"{key}.lora_magnitude_vector": one["magnitude"]} if "magnitude" in one else found


def _text_module(name: str) -> str:
    """As files call it: a network by itself lacks the first part of the name."""
    return name if name.startswith("text_model.") else f"text_model.{name}"


def file_metadata(lora: Mapping[str, Any]) -> dict[str, str]:
    """What kohya's trainer states in a file."""
    layers = lora["layers"].values()
    ranks = [len(one[role]) for one in layers for role in ("down", "lokr_w2_b") if role in one]
    stated = {"ss_network_dim": str(max(ranks, default=0))}
    stated["ss_network_alpha"] = f"{max(lora['alphas'].values(), default=0.0):g}"
    if any("lokr_w1" in one for one in layers):
        return {**stated, "ss_network_module": "lycoris.kohya", "ss_network_args": '{"algo": "lokr"}'}
    return {**stated, "ss_network_module": "networks.lora"}
