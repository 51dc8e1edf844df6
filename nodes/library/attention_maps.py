"""Cross-attention of each word of a prompt, as maps over the image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from graphflow import Context, GraphFlowError, Help, Latent, Mask, Multiline, Problem, node

from ..devices.environment import sampling
from ..model.wires import ClipWire, ModelWire
from .conditioning import check_prompts, embeddings_of, encode, text_outside
from .sigmas import Sigmas

if TYPE_CHECKING:
    from torch import Tensor


class WordMaps(NamedTuple):
    maps: Mask
    words: str


@node(
    "GraphFlowAttentionMaps",
    category="sampling/process",
    display_name="Attention Maps of a Prompt",
    version="1",
    lane="device",
    in_turns=True,
    environment=sampling,
    outside=text_outside,
    check=check_prompts,
)
def attention_maps(
    context: Context,
    model: ModelWire,
    clip: ClipWire,
    text: Annotated[str, Multiline(words=True)],
    noisy: Annotated[Latent, Help("moments x_t of one latent, from the reverse process")],
    levels: Annotated[Sigmas, Help("their noise levels")],
) -> WordMaps:
    """Where a model looks for each word of a prompt: one map [h, w] for a word, and the words, one a line.

    The model is asked once more at each moment, so no bit of an image changes. A map is the attention softmax(Q K^T /
    sqrt(d)) of the tokens of a word, the mean over moments, layers and heads, each layer resampled to the latent (DAAM,
    arXiv 2210.04885).
    """
    import torch

    from ..devices.use import open_device
    from ..model.conditioning import check, from_wire
    from ..patches.attention import check_port
    from ..patches.attention_maps import CROSS_ATTENTION, AttentionListener
    from ..samplers.denoiser import denoiser
    from ..samplers.guidance import CFG

    check_port(model, CROSS_ATTENTION, "a map of attention")
    samples = noisy["samples"].float()
    if len(levels) != len(samples):
        message = f"there are {len(samples)} latents and {len(levels)} levels: expected a level for each latent"
        hint = "link `noisy` and `levels` of one GraphFlowReverseProcess, with a batch of one latent"
        raise GraphFlowError([Problem("wrong_levels", message, input="levels", hint=hint)])
    words = _words(context.settings, clip, text)
    batches = from_wire(encode(context.settings, clip, text), "text")
    check(model, batches, "text")
    sides, total, count = samples.shape[-2:], torch.zeros(len(words), *samples.shape[-2:]), 0

    def heard(probabilities: Tensor) -> None:
        nonlocal count
        of_words = torch.stack([probabilities[:, places].sum(-1) for _, places in words])
        total.add_(_on_latent(of_words, sides))
        count += 1

    prediction, format = model.prediction, model.latent
    listening = CFG(model.with_patch(AttentionListener(heard)), batches)
    moments = [(level, x) for level, x in zip(levels.float().cpu(), samples, strict=True) if float(level) > 0]
    if not moments:
        message = "all levels are 0: a model is asked about latents under noise"
        raise GraphFlowError([Problem("wrong_levels", message, input="levels", hint="keep the levels of the moments")])
    for step, (level, x) in enumerate(moments):
        context.progress(step, len(moments))
        scale = prediction.scale_in(torch.ones(()), level)
        at = format.into(x[None]) / scale
        with denoiser(open_device(context.settings), listening, at, torch.stack([level, level * 0])) as denoise:
            denoise(at, level)
    return WordMaps(total / max(count, 1), "\n".join(word for word, _ in words))


def _words(settings: Any, clip: Any, text: str) -> list[tuple[str, list[int]]]:
    """The words of a prompt and their places in its embedding."""
    from ..families.text import words_of

    words = words_of(clip, text, embeddings_of(settings))
    if not words:
        hint = "write a prompt, and use a text encoder of CLIP (Stable Diffusion 1.x, 2.x, XL)"
        raise GraphFlowError([Problem("no_words", "there is no word to look for", input="text", hint=hint)])
    return words


def _on_latent(maps: Tensor, sides: Any) -> Tensor:
    """[words, queries] -> [words, h, w]: the layers of a U-Net have 1, 1/2, 1/4 ... of the sides, rounded up."""
    from torch.nn import functional as F

    height, width = sides
    for halvings in range(12):
        factor = 2**halvings
        rows, columns = -(-height // factor), -(-width // factor)
        if rows * columns == maps.shape[1]:
            layer = maps.reshape(1, len(maps), rows, columns)
            return F.interpolate(layer, (height, width), mode="bilinear", align_corners=False)[0]
    raise ValueError(f"{maps.shape[1]} queries do not fit a latent of {width} x {height}")
