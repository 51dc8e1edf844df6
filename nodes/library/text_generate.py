"""Text by the language model inside a text encoder: prompts made richer, images described."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeVar, get_type_hints

from graphflow import (
    Choice,
    Context,
    GraphFlowError,
    Grow,
    Help,
    Image,
    Multiline,
    Problem,
    Range,
    Seed,
    Variants,
    Wire,
    node,
)

from ..devices.environment import numerics
from ..model.wires import ClipWire

if TYPE_CHECKING:
    from torch import Tensor

F = TypeVar("F", bound=Callable[..., Any])
MAX_SEED = 2**64 - 1
EVERY = 24
"""One of so many frames of a video is shown to the model: one a second."""
PAUSE = 0.1
"""Seconds between two reports of the words so far."""
FOR_VIDEO = (
    "Rewrite the user's idea as one paragraph that a model for videos with sound can follow. Describe in the order in "
    "which it happens what is seen, who does what, how the camera moves, the light and the colors, and what is heard, "
    "speech in quotation marks. Keep everything that the user asks for, invent no other plot, and write the paragraph "
    "only."
)
"""The system turn of TextGenerateLTX2Prompt."""


@dataclass(frozen=True)
class Drawn:
    """Words are drawn by their chances."""

    temperature: Annotated[float, Range(0.01, 2.0, 0.01), Help("below 1 likely words are taken more often")] = 0.7
    top_k: Annotated[int, Range(0, 1000), Help("only the k likeliest words; 0: all")] = 64
    top_p: Annotated[float, Range(0.0, 1.0, 0.01), Help("only the likeliest words that make up this share")] = 0.95
    min_p: Annotated[float, Range(0.0, 1.0, 0.01), Help("only words with this share of the likeliest one's chance")] = (
        0.05
    )
    repetition_penalty: Annotated[float, Range(0.0, 5.0, 0.01), Help("above 1 words come back less often")] = 1.05
    seed: Annotated[int, Range(0, MAX_SEED), Seed()] = 0
    presence_penalty: Annotated[float, Range(0.0, 5.0, 0.01), Help("subtracted from words that were written")] = 0.0


class GeneratedText(NamedTuple):
    generated_text: str
    thinking: str


_Mode = Annotated[Any, Variants({"on": Drawn, "off": None}), Help("off: always the likeliest word")]
_Most = Annotated[int, Range(1, 32768), Help("tokens that are written at most")]
_Images = Annotated[dict[str, Any], Grow(Image, names=tuple(f"image_{n}" for n in range(1, 10)), optional=True)]
_Tokens = Annotated[
    str,
    Choice(("auto", "off", "2", "3", "4", "5")),
    Help("tokens that are guessed ahead; accepted, and of no effect: words are written one by one"),
]
_Audio = Annotated[Any, Wire("AUDIO")]


def _takes_inputs_of(other: Callable[..., Any], but: str) -> Callable[[F], F]:
    """The decorated function, which takes any, declares the inputs of another node function, without one of them."""

    def declare(function: F) -> F:
        hints = get_type_hints(other, include_extras=True)
        taken = [item for name, item in inspect.signature(other).parameters.items() if name != but]
        function.__annotations__ = {name: hint for name, hint in hints.items() if name != but}
        function.__signature__ = inspect.Signature(taken)  # type: ignore[attr-defined]
        return function

    return declare


@node(
    "TextGenerate",
    category="textgen",
    display_name="Generate Text",
    version="1",
    lane="device",
    in_turns=True,
    environment=numerics,
)
def text_generate(
    context: Context,
    clip: ClipWire,
    prompt: Annotated[str, Multiline(words=True)] = "",
    image: Image | None = None,
    images: _Images | None = None,
    video: Image | None = None,
    audio: _Audio | None = None,
    max_length: _Most = 512,
    sampling_mode: _Mode = "on",
    thinking: Annotated[bool, Help("let the model think before it answers")] = False,
    use_default_template: Annotated[bool, Help("off: the prompt is all that the model reads")] = True,
    mtp: _Tokens = "auto",
    system_prompt: Annotated[str, Multiline(), Help("how the model is to answer")] = "",
) -> GeneratedText:
    """Let the language model among the text encoders write: enlarge a prompt, or describe images.

    Qwen3, Qwen2.5-VL and Qwen3-VL (which see images), Gemma, Mistral 3, Ministral 3 and Llama 3.1 write, in the
    format of chat that they were trained on. Equal seeds give equal text, also where a run was stopped and made again.
    Of a video one frame of 24 is shown. The second output has the model's thoughts, where it has some.
    """
    return _written(
        context,
        clip,
        prompt,
        _shown(image, images, video),
        audio,
        max_length=max_length,
        mode=sampling_mode,
        thinking=thinking,
        in_chat=use_default_template,
        system=system_prompt,
    )


@node(
    "TextGenerateLTX2Prompt",
    category="textgen",
    version="1",
    lane="device",
    in_turns=True,
    environment=numerics,
)
@_takes_inputs_of(text_generate, but="system_prompt")
def text_generate_ltx2_prompt(**inputs: Any) -> GeneratedText:
    """As TextGenerate, for prompts of videos: the model is asked to describe the user's idea as a scene with sound. The
    wording of that request is GraphFlow's own."""
    return text_generate(**inputs, system_prompt=FOR_VIDEO)


def _shown(image: Tensor | None, images: Mapping[str, Tensor] | None, video: Tensor | None) -> list[Tensor]:
    """Each image [H, W, 3] that the model sees, in their order."""
    given = [one for one in (image, *(images or {}).values()) if one is not None]
    frames = [frame for batch in given for frame in batch]
    return [one[..., :3] for one in (*frames, *(video[::EVERY] if video is not None else ()))]


def _written(
    context: Context,
    clip: Any,
    prompt: str,
    images: list[Tensor],
    audio: Any,
    *,
    max_length: int,
    mode: Any,
    thinking: bool,
    in_chat: bool,
    system: str,
) -> GeneratedText:
    from ..devices.use import open_device
    from ..families.kits.speech_network import Sampling
    from ..families.speech import write

    if audio is not None:
        raise GraphFlowError(
            [Problem("no_hearing", "no language model that can run hears sound", input="audio", hint="unlink it")]
        )
    last = -PAUSE

    def notice(count: int, text: str) -> None:
        nonlocal last
        context.progress(count, max_length)
        if time.monotonic() - last >= PAUSE:
            last = time.monotonic()
            context.say(text)

    answer, thoughts = write(
        open_device(context.settings),
        clip,
        prompt,
        images=images,
        system=system,
        thinking=thinking,
        in_chat=in_chat,
        most=max_length,
        sampling=Sampling(**asdict(mode)) if isinstance(mode, Drawn) else None,
        notice=notice,
        keep=context.keep,
        begun=context.restore(),
    )
    context.say(answer)
    return GeneratedText(answer, thoughts)
