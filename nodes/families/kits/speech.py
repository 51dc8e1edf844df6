"""Text encoders that can write text: how each kind reads a chat, and where its last layer lies. Imports no torch.

As an encoder a language model ends with states; the layer that makes words of them (`lm_head`) is the transposed
table of its embeddings where the architecture ties the two, and else a tensor of its own in the file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from graphflow import GraphFlowError, Problem

from ...files.header import Header, read_header
from ...files.quantised import weights_of
from ...model.config import Config
from ...model.family import Family, Part
from ...model.handles import Clip, WeightsHandle, WeightsSource

__all__ = ["SPEAKERS", "Chat", "Speaker", "Tokens", "answer_of", "chat_text", "head_of", "head_problem", "speaker_of"]

HEAD = "head"


@dataclass(frozen=True, slots=True)
class Chat:
    """The format of the chats that a model was trained on. `{}` stands for the words of a turn."""

    user: str
    answer: str
    """The beginning of the answer, which the model goes on with."""
    stops: tuple[str, ...]
    """Tokens that end the answer."""
    system: str = ""
    """Empty: the model knows no system turn, and its words are put before those of the user."""
    begin: str = ""
    image: str = ""
    """Where an image stands; empty: the model sees none."""
    no_thoughts: str = ""
    """What an answer begins with so that the model does not think first."""


QWEN = Chat(
    system="<|im_start|>system\n{}<|im_end|>\n",
    user="<|im_start|>user\n{}<|im_end|>\n",
    answer="<|im_start|>assistant\n",
    stops=("<|im_end|>", "<|endoftext|>"),
)
GEMMA = Chat(
    begin="<bos>",
    user="<start_of_turn>user\n{}<end_of_turn>\n",
    answer="<start_of_turn>model\n",
    stops=("<end_of_turn>", "<eos>"),
)
MISTRAL = Chat(
    begin="<s>",
    system="[SYSTEM_PROMPT]{}[/SYSTEM_PROMPT]",
    user="[INST]{}[/INST]",
    answer="",
    stops=("</s>",),
)
LLAMA = Chat(
    begin="<|begin_of_text|>",
    system="<|start_header_id|>system<|end_header_id|>\n\n{}<|eot_id|>",
    user="<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|>",
    answer="<|start_header_id|>assistant<|end_header_id|>\n\n",
    stops=("<|eot_id|>", "<|eom_id|>", "<|end_of_text|>"),
)


@dataclass(frozen=True, slots=True)
class Tokens:
    """A tokenizer as generation uses it."""

    ids: Callable[[str], list[int]]
    """Special tokens are recognised where they stand; nothing is added."""
    text: Callable[[Sequence[int]], str]
    id_of: Callable[[str], int | None]
    """Of a special token; None where the tokenizer has none of that name."""


@dataclass(frozen=True, slots=True)
class Speaker:
    """One kind of language model inside text encoders."""

    title: str
    chat: Chat
    tokens: Callable[[Clip, str], Tokens]
    ties: Callable[[Config], bool]
    """Whether models of this size use the embeddings as their last layer."""
    width: Callable[[Config], tuple[int, int]]
    """Words and columns of the last layer."""


def _qwen_tokens(clip: Clip, part: str) -> Tokens:
    from . import qwen_tokenizer

    return _library_tokens(qwen_tokenizer.tokenizer_of(clip, part))


def _tekken_tokens(clip: Clip, part: str) -> Tokens:
    from . import tekken_tokenizer

    return _library_tokens(tekken_tokenizer.library_tokenizer(clip, part))


def _llama_tokens(clip: Clip, part: str) -> Tokens:
    from .qwen_tokenizer import tokenizer_in

    source = dict(clip.sources).get("tokenizer.llama")
    if source is None:
        raise GraphFlowError(
            [
                Problem(
                    "no_tokenizer",
                    "the vocabulary of Llama 3.1 is not there, and its texts are written with it",
                    input="clip",
                    hint="put its tokenizer.json into models/tokenizers/llama3: its licence does not let us ship it",
                )
            ]
        )
    return _library_tokens(tokenizer_in(str(Path(source.path) / source.prefix)))


def _library_tokens(tokenizer: Any) -> Tokens:
    from .qwen_tokenizer import encode

    return Tokens(
        ids=lambda text: encode(tokenizer, text),
        text=lambda ids: str(tokenizer.decode(list(ids), skip_special_tokens=False)),
        id_of=tokenizer.token_to_id,
    )


def _gemma_tokens(clip: Clip, part: str) -> Tokens:
    from . import sentencepiece_tokenizer

    return Tokens(*sentencepiece_tokenizer.both_ways(clip, part, ("<bos>", "<start_of_turn>", "<end_of_turn>")))


def _plain_width(config: Config) -> tuple[int, int]:
    return config.vocab_size, config.hidden_size


def _inner_width(config: Config) -> tuple[int, int]:
    return _plain_width(config.text)


_EYES = replace(QWEN, image="<|vision_start|><|image_pad|><|vision_end|>")
_QWEN3 = Speaker(
    title="Qwen3",
    chat=replace(QWEN, no_thoughts="<think>\n\n</think>\n\n"),
    tokens=_qwen_tokens,
    ties=lambda config: bool(config.hidden_size < 4096),  # 0.6B, 1.7B and 4B
    width=_plain_width,
)
SPEAKERS: Mapping[str, Speaker] = {
    "text.qwen3": _QWEN3,
    "text.qwen3_06b": _QWEN3,
    "text.qwen3vl": Speaker(
        title="Qwen3-VL",
        chat=_EYES,
        tokens=_qwen_tokens,
        ties=lambda config: bool(config.text.hidden_size < 4096),  # 2B and 4B
        width=_inner_width,
    ),
    "text.gemma2": Speaker(
        title="Gemma 2", chat=GEMMA, tokens=_gemma_tokens, ties=lambda config: True, width=_plain_width
    ),
    "text.gemma3": Speaker(
        title="Gemma 3", chat=GEMMA, tokens=_gemma_tokens, ties=lambda config: True, width=_plain_width
    ),
    "text.mistral3": Speaker(
        title="Mistral 3", chat=MISTRAL, tokens=_tekken_tokens, ties=lambda config: False, width=_plain_width
    ),
    "text.ministral3": Speaker(
        title="Ministral 3",
        chat=MISTRAL,
        tokens=_tekken_tokens,
        ties=lambda config: bool(config.hidden_size < 4096),  # 3B
        width=_plain_width,
    ),
    "text.llama": Speaker(
        title="Llama 3.1",
        chat=LLAMA,
        tokens=_llama_tokens,
        ties=lambda config: bool(config.hidden_size < 4096),  # 1B and 3B of 3.2
        width=_plain_width,
    ),
    "text.qwen25vl": Speaker(
        title="Qwen2.5-VL",
        chat=_EYES,
        tokens=_qwen_tokens,
        ties=lambda config: bool(config.text.hidden_size < 3584),  # 3B
        width=_inner_width,
    ),
}
"""By the names of the parts of a handle."""


def speaker_of(clip: Clip) -> tuple[str, Speaker]:
    """The language model of a handle: its part and its kind. Raises a Problem where there is none."""
    found = next(((part, SPEAKERS[part]) for part, _ in clip.sources if part in SPEAKERS), None)
    if found is None:
        titles = ", ".join(dict.fromkeys(each.title for each in SPEAKERS.values()))
        raise GraphFlowError(
            [
                Problem(
                    "no_language_model",
                    f"the text encoders of {clip.family.title} only read: none of them writes text",
                    input="clip",
                    hint=f"load one that does with CLIPLoader: {titles}",
                )
            ]
        )
    return found


def chat_text(chat: Chat, prompt: str, images: int = 0, system: str = "", thinking: bool = False) -> str:
    """The text of a chat: a system turn where there are words for it, the user's turn with the images before its words,
    and the beginning of the answer."""
    if system and not chat.system:
        prompt, system = f"{system}\n\n{prompt}", ""
    turns = chat.system.replace("{}", system) if system else ""
    turns += chat.user.replace("{}", chat.image * images + prompt)
    return chat.begin + turns + chat.answer + ("" if thinking else chat.no_thoughts)


def answer_of(text: str) -> tuple[str, str]:
    """What a model wrote -> (its answer, its thoughts between `<think>` and `</think>`), both stripped."""
    before, end, after = text.partition("</think>")
    if end:
        return after.strip(), before.replace("<think>", "", 1).strip()
    if text.lstrip().startswith("<think>"):  # it was stopped while it thought
        return "", text.replace("<think>", "", 1).strip()
    return text.strip(), ""


def head_of(clip: Clip) -> WeightsHandle | None:
    """The last layer of the language model as a handle; None where it is the embeddings.

    Raises a Problem where the file lacks it and the architecture does not tie it.
    """
    part, speaker = speaker_of(clip)
    source, config = clip.source(part), clip.config[part]
    header = read_header(Path(source.path))
    prefix = _head_in(header, source.prefix)
    if prefix is None:
        problem = head_problem(header, source.prefix, speaker, config)
        if problem is not None:
            raise GraphFlowError([problem])
        return None
    words, columns = speaker.width(config)
    own = WeightsSource(source.path, source.digest, HEAD, prefix, source.digest_now)
    return WeightsHandle(HEADS, ((HEAD, own),), Config(words=words, columns=columns))


def head_problem(header: Header, prefix: str, speaker: Speaker, config: Config) -> Problem | None:
    """The Problem of a file whose language model cannot write, as it lacks its last layer; None where it can."""
    if _head_in(header, prefix) is not None or speaker.ties(config):
        return None
    words, columns = speaker.width(config)
    return Problem(
        "no_head",
        f"{header.path.name} holds a {speaker.title} of width {columns} without its last layer (lm_head, {words} x "
        f"{columns}), so it can encode prompts and cannot write text",
        input="clip",
        hint="use the whole model's file; smaller models of this kind need none, as their embeddings serve for it",
    )


def _head_in(header: Header, prefix: str) -> str | None:
    """The prefix of the last layer in a file, for a language model under `prefix`."""
    names = weights_of(header)
    places = (prefix, prefix.removesuffix("model."))
    return next((f"{place}lm_head." for place in places if f"{place}lm_head.weight" in names), None)


HEADS = Family(
    name="language_model_head",
    version="1",
    title="language model",
    recognise=lambda header: None,
    parts={
        HEAD: Part(
            build=f"{__name__}_network:build_head",
            layouts={HEAD: lambda config: {"": ""}},
            title="last layer of the language model",
        )
    },
)
"""The last layers that lie in files of their own name: loaded, kept and dropped by the pool like any part."""
