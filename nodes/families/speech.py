"""Text that the language model among a handle's text encoders writes, on the device of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from graphflow import GraphFlowError, Problem

from ..model.handles import Clip
from .kits.speech import Speaker, answer_of, chat_text, head_of, speaker_of

if TYPE_CHECKING:
    from torch import Tensor

    from ..devices.use import Device
    from .kits.speech_network import Sampling

__all__ = ["write"]


def write(
    device: Device,
    clip: Clip,
    prompt: str,
    *,
    images: Sequence[Tensor] = (),
    system: str = "",
    thinking: bool = False,
    in_chat: bool = True,
    most: int = 512,
    sampling: Sampling | None = None,
    notice: Callable[[int, str], None] = lambda count, text: None,
    keep: Callable[[Callable[[], Mapping[str, Tensor]]], None] = lambda make: None,
    begun: Mapping[str, Tensor] | None = None,
) -> tuple[str, str]:
    """(answer, thoughts) of the language model. `images`: float32 [H, W, 3] in 0..1.

    `in_chat`: the prompt is the user's turn of a chat in the model's own format; else it is what the model goes on
    with, and marks of images in it are its author's. At most `most` tokens are written; `sampling` None takes the
    likeliest at each place. `notice(tokens, text so far)` is called after each token, and may raise to end it. `keep`
    is offered the state after each token, and `begun` is such a state to go on from. Raises a Problem where the text
    encoders write no text, or see no images and are shown some.
    """
    from .kits import speech_network

    part, speaker = speaker_of(clip)
    head, config, tokens = head_of(clip), clip.config[part], speaker.tokens(clip, part)
    if images:
        _check_sight(speaker, config)
    text = chat_text(speaker.chat, prompt, len(images), system, thinking) if in_chat else prompt
    if images and not in_chat and speaker.chat.image not in prompt:
        text = speaker.chat.image * len(images) + prompt
    ids, besides = speech_network.seen(_ids(tokens.ids(text)), images, config, part)
    stops = [number for number in map(tokens.id_of, speaker.chat.stops) if number is not None]
    with ExitStack() as stack:
        module = stack.enter_context(device.use(clip, part)).module
        last = stack.enter_context(device.use(head, "head")).module if head is not None else None
        model = speech_network.whole(part, module, last, config)
        found = speech_network.written(
            model,
            ids,
            besides,
            most=most,
            stops=stops,
            sampling=sampling,
            run=device.run,
            notice=lambda ids: notice(len(ids), tokens.text(ids)),
            keep=keep,
            begun=begun,
        )
    return answer_of(tokens.text(found))


def _ids(ids: list[int]) -> list[int]:
    if not ids:
        raise GraphFlowError([Problem("empty_prompt", "there is nothing that the model could go on with")])
    return ids


def _check_sight(speaker: Speaker, config: Any) -> None:
    """Raises a Problem where a language model sees no images."""
    if speaker.chat.image and "vision" in config:
        return
    missing = "this file of it has no vision tower" if speaker.chat.image else "it reads texts only"
    raise GraphFlowError(
        [
            Problem(
                "no_vision",
                f"the language model {speaker.title} is shown images, and {missing}",
                input="image",
                hint="use a text encoder with a vision tower, such as Qwen2.5-VL, or unlink the images",
            )
        ]
    )
