"""HiDream: its four text encoders, and a prompt for each of them."""

from functools import partial
from typing import Annotated

from graphflow import Conditioning, Multiline, Settings, node

from ..devices.environment import numerics
from ..families.check_files import file_check
from ..model.wires import ClipWire
from .conditioning import check_prompts, encode, prompts_outside
from .loaders import EncoderName, encoders_digest, folders

_Words = Annotated[str, Multiline(words=True)]


@node(
    "QuadrupleCLIPLoader",
    category="advanced/loaders",
    display_name="QuadrupleCLIPLoader",
    version="1",
    outside=encoders_digest,
    check=file_check("text_encoders", "text encoder", "clip_name1", "clip_name2", "clip_name3", "clip_name4"),
)
def quadruple_clip_loader(
    settings: Settings,
    clip_name1: EncoderName,
    clip_name2: EncoderName,
    clip_name3: EncoderName,
    clip_name4: EncoderName,
) -> ClipWire:
    """Take the four text encoders of HiDream out of files of their own, in any order: CLIP-L, CLIP-G, T5 and Llama 3.1.

    The vocabularies of T5 and Llama do not ship: put them into models/tokenizers/t5 and models/tokenizers/llama3.
    """
    from ..families.opened import open_text_encoders

    find = partial(folders(settings).find, "text_encoders")
    names = (clip_name1, clip_name2, clip_name3, clip_name4)
    return open_text_encoders([find(name) for name in names], settings, "hidream")


@node(
    "CLIPTextEncodeHiDream",
    category="advanced/conditioning",
    display_name="CLIPTextEncodeHiDream",
    version="1",
    lane="device",
    in_turns=True,
    environment=numerics,
    outside=prompts_outside,
    check=check_prompts,
)
def clip_text_encode_hidream(
    settings: Settings, clip: ClipWire, clip_l: _Words, clip_g: _Words, t5xxl: _Words, llama: _Words
) -> Conditioning:
    """Encode a prompt for each of HiDream's text encoders."""
    prompts = {"text.l": clip_l, "text.g": clip_g, "text.t5": t5xxl, "text.llama": llama}
    return encode(settings, clip, t5xxl, **prompts)
