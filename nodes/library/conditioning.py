"""Text to conditioning, and what can be done with it.

CONDITIONING is a list of (embedding float32 [1,T,D], options); `pooled_output` [1,D] is among the options.
"""

from typing import Annotated

from graphflow import ClipHandle, Conditioning, Multiline, Range, Settings, node

from ..devices.environment import numerics
from ..limits import check_items


@node("CLIPTextEncode", category="conditioning", display_name="CLIP Text Encode (Prompt)", version="1", lane="device",
      environment=numerics)  # fmt: skip
def clip_text_encode(settings: Settings, text: Annotated[str, Multiline(words=True)], clip: ClipHandle) -> Conditioning:
    """Encode a prompt. `(word:1.2)` weighs a part of it, `(word)` is 1.1; `\\(` is a plain bracket."""
    from ..devices import shared_pool
    from ..families.text import encode_text

    embedding, pooled = encode_text(shared_pool(settings.device), clip, text)
    return [(embedding, {"pooled_output": pooled})]


@node("CLIPSetLastLayer", category="conditioning", display_name="CLIP Set Last Layer", version="1")
def clip_set_last_layer(clip: ClipHandle, stop_at_clip_layer: Annotated[int, Range(-24, -1, 1)] = -1) -> ClipHandle:
    """Clip skip: take the text encoder's states from an earlier layer (-1 is the last)."""
    from dataclasses import replace

    return replace(clip, stop_at=stop_at_clip_layer)


@node("ConditioningCombine", category="conditioning", display_name="Conditioning (Combine)", version="1")
def conditioning_combine(conditioning_1: Conditioning, conditioning_2: Conditioning) -> Conditioning:
    """Both conditionings at once: the model's answers to them are averaged."""
    check_items(len(conditioning_1) + len(conditioning_2), "conditionings")
    return [*conditioning_1, *conditioning_2]


@node("ConditioningZeroOut", category="advanced/conditioning", display_name="Conditioning Zero Out", version="1")
def conditioning_zero_out(conditioning: Conditioning) -> Conditioning:
    """The same shapes with nothing but zeros in them."""
    return [
        (embedding.new_zeros(embedding.shape), {
            key: value.new_zeros(value.shape) if key == "pooled_output" and value is not None else value
            for key, value in options.items()
        })
        for embedding, options in conditioning
    ]  # fmt: skip
