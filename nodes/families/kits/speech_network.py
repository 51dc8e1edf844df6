r"""Language models of text encoders as writers: transformers' `generate` around the weights that encode prompts.

A word is drawn from the softmax of the scores :math:`z` after these, in this order: repetition penalty (scores of
tokens that have been seen are divided by it where positive, else multiplied; arXiv 1909.05858), presence penalty
(subtracted from the scores of tokens that have been written), temperature :math:`z / T`, top k, top p (arXiv
1904.09751) and min p (arXiv 2407.01082). It is drawn on the CPU from a generator of its own, so equal seeds give equal
text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any, TypeVar

import torch
from torch import Tensor
from transformers import (
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    GenerationConfig,
    LlamaForCausalLM,
    LogitsProcessor,
    LogitsProcessorList,
    Ministral3ForCausalLM,
    MinPLogitsWarper,
    MistralForCausalLM,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLModel,
    Qwen3ForCausalLM,
    Qwen3VLForConditionalGeneration,
    RepetitionPenaltyLogitsProcessor,
    StoppingCriteria,
    StoppingCriteriaList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from ...model.config import Config
from . import qwen3_vl_network, qwen25_vl_network
from .image_patches import spread_tokens
from .speech_state import Written, new_cache

__all__ = ["Sampling", "build_head", "seen", "whole", "written"]

T = TypeVar("T")
Run = Callable[..., Any]
"""Makes a call on the thread of the device."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How words are drawn; None in its place: always the likeliest."""

    temperature: float = 0.7
    top_k: int = 64
    """0: all."""
    top_p: float = 0.95
    min_p: float = 0.05
    repetition_penalty: float = 1.05
    seed: int = 0
    presence_penalty: float = 0.0


VL25, VL3 = "text.qwen25vl", "text.qwen3vl"
CLASSES: dict[str, Any] = {
    "text.qwen3": Qwen3ForCausalLM,
    "text.qwen3_06b": Qwen3ForCausalLM,
    "text.gemma2": Gemma2ForCausalLM,
    "text.gemma3": Gemma3ForCausalLM,
    "text.mistral3": MistralForCausalLM,
    "text.ministral3": Ministral3ForCausalLM,
    "text.llama": LlamaForCausalLM,
    VL25: Qwen2_5_VLForConditionalGeneration,
    VL3: Qwen3VLForConditionalGeneration,
}
"""The classes of transformers that write, by part."""


def build_head(config: Config) -> torch.nn.Module:
    """The empty last layer."""
    with torch.device("meta"):
        return torch.nn.Linear(config.columns, config.words, bias=False)


def whole(part: str, module: Any, head: torch.nn.Module | None, config: Config) -> Any:
    """A model of transformers that can generate, around the network of a text encoder and a last layer; without one
    the embeddings are it. No weights are copied."""
    has_tower = part in (VL25, VL3)
    embeddings = module.language_model.embed_tokens if has_tower else module.embed_tokens
    inner = _with_language_model(module, config) if part == VL25 else module
    with torch.device("meta"):
        made: Any = CLASSES[part](inner.config)
    made.model = inner
    made.lm_head = head if head is not None else _Tied(embeddings)
    return made.eval()


def _with_language_model(module: Any, config: Config) -> Any:
    """The class that `generate` needs, for a file without a vision tower too."""
    if isinstance(module, Qwen2_5_VLModel):
        return module
    text = module.language_model.config
    special = {name: config[name] for name in ("image_token_id", "video_token_id", "vision_start_token_id")}
    with torch.device("meta"):
        made: Any = Qwen2_5_VLModel(Qwen2_5_VLConfig(text_config=text, vision_config={"depth": 0}, **special))
    made.language_model = module.language_model
    return made


class _Tied(torch.nn.Module):
    """The table of the embeddings as last layer. It may be packed: so it is asked for each time."""

    def __init__(self, embeddings: torch.nn.Module) -> None:
        super().__init__()
        self.__dict__["embeddings"] = embeddings  # a part of the model already

    def forward(self, states: Tensor) -> Tensor:
        return torch.nn.functional.linear(states, self.__dict__["embeddings"].weight)


def seen(
    ids: Sequence[int], images: Sequence[Tensor], config: Config, part: str = VL25
) -> tuple[list[int], dict[str, Tensor]]:
    """(ids, what `generate` takes besides them) for images float32 [H, W, 3] in 0..1, one for each image token."""
    if not images:
        return list(ids), {}
    patches_of = qwen25_vl_network.patches_of if part == VL25 else qwen3_vl_network.fitted_patches
    found = [patches_of(image, config) for image in images]
    counts = [rows * columns // config.vision.spatial_merge_size**2 for _, (rows, columns) in found]
    spread = spread_tokens(ids, config.image_token_id, counts)
    return spread, {
        "pixel_values": torch.cat([patches for patches, _ in found]),
        "image_grid_thw": torch.tensor([[1, *sides] for _, sides in found]),
        "mm_token_type_ids": (torch.tensor([spread]) == config.image_token_id).int(),
    }


def written(
    model: Any,
    ids: Sequence[int],
    besides: dict[str, Tensor],
    *,
    most: int,
    stops: Sequence[int],
    sampling: Sampling | None,
    run: Run,
    notice: Callable[[list[int]], None],
    keep: Callable[[Callable[[], Mapping[str, Tensor]]], None] = lambda make: None,
    begun: Mapping[str, Tensor] | None = None,
) -> list[int]:
    """The ids that a model writes behind `ids`, without the one that ends them; at most `most`.

    After each of them `keep` is offered the state, then `notice` is called with all of them, and may raise to end it.
    `begun` is such a state: the text goes on from there, with the words that it would have had. The passes of the model
    are calls of `run`.
    """
    device = next(model.parameters()).device
    model.forward = _on_thread(model.forward, run)
    drawing = _Drawn(sampling, len(ids)) if sampling is not None else None
    generator, cache = drawing.generator if drawing is not None else None, new_cache(model)
    before = Written.from_tensors(begun) if begun is not None else None
    if before is not None:
        before.put(cache, model, device)
        if generator is not None and before.generator is not None:
            generator.set_state(before.generator)
        besides = {}  # the images are in the cache
        if len(before.ids) >= most or (before.ids and before.ids[-1] in stops):
            return _without(list(before.ids), stops)
    given = [*ids, *(before.ids if before is not None else ())]

    def behind(found: list[int]) -> None:
        keep(lambda: Written.of(found, cache, model, generator).to_tensors())
        notice(_without(found, stops))

    untyped: Any = GenerationConfig
    stated = untyped(
        max_new_tokens=most - (len(given) - len(ids)),
        do_sample=False,
        eos_token_id=list(stops) or None,
        pad_token_id=0,
        use_cache=True,
    )
    with torch.inference_mode():
        found = model.generate(
            torch.tensor([given], device=device),
            attention_mask=torch.ones(1, len(given), dtype=torch.long, device=device),
            generation_config=stated,
            logits_processor=LogitsProcessorList([drawing] if drawing is not None else []),
            stopping_criteria=StoppingCriteriaList([_Notice(behind, len(ids))]),
            past_key_values=cache,
            **{name: tensor.to(device) for name, tensor in besides.items()},
        )
    return _without(found[0, len(ids) :].tolist(), stops)


def _without(ids: list[int], stops: Sequence[int]) -> list[int]:
    return ids[:-1] if ids and ids[-1] in stops else ids


def _on_thread(forward: Callable[..., T], run: Run) -> Callable[..., T]:
    @wraps(forward)  # transformers reads its signature
    def on_thread(*arguments: Any, **named: Any) -> T:
        found: T = run(torch.inference_mode()(partial(forward, *arguments, **named)))
        return found

    return on_thread


class _Drawn(LogitsProcessor):
    """Draws a token and leaves no other, so that `generate`, which takes the likeliest, takes it."""

    def __init__(self, sampling: Sampling, prompt: int) -> None:
        self.prompt, self.presence = prompt, sampling.presence_penalty
        self.generator = torch.Generator().manual_seed(sampling.seed)
        self.before, self.after = LogitsProcessorList(), LogitsProcessorList()
        if sampling.repetition_penalty not in (0.0, 1.0):
            self.before.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
        self.after.append(TemperatureLogitsWarper(sampling.temperature))
        if sampling.top_k:
            self.after.append(TopKLogitsWarper(sampling.top_k))
        if sampling.top_p < 1.0:
            self.after.append(TopPLogitsWarper(max(sampling.top_p, 0.0)))
        if sampling.min_p > 0.0:
            self.after.append(MinPLogitsWarper(min(sampling.min_p, 1.0)))

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        ids, left = input_ids.cpu(), scores.float().cpu()
        left = self.before(ids, left)
        if self.presence:
            left = left.clone()
            left[0, ids[0, self.prompt :].unique()] -= self.presence
        chances = torch.softmax(self.after(ids, left), dim=-1)
        token = torch.multinomial(chances, 1, generator=self.generator)
        return torch.full_like(scores, -torch.inf).scatter(1, token.to(scores.device), 0.0)


class _Notice(StoppingCriteria):
    """Reports what has been written after each token; ends nothing by itself."""

    def __init__(self, notice: Callable[[list[int]], None], prompt: int) -> None:
        self.notice, self.prompt = notice, prompt

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        self.notice(input_ids[0, self.prompt :].tolist())
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
