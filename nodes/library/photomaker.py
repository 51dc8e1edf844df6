"""PhotoMaker: who is on an image, as one word of a prompt for Stable Diffusion XL."""

from dataclasses import replace
from typing import Annotated, Any

from graphflow import Choice, Conditioning, GraphFlowError, Help, Image, Multiline, Problem, Settings, Wire, node

from ..devices.environment import numerics
from ..families.photomaker import misfit, place_of_trigger
from ..families.vision import PHOTOMAKER_FOLDER, check_photomaker, open_photomaker
from ..model.wires import ClipWire
from .conditioning import check_prompts, embeddings_of, encode, text_outside
from .loaders import folders

PhotoMakerWire = Annotated[Any, Wire("PHOTOMAKER")]


def _names(settings: Settings) -> list[str]:
    return folders(settings).list(PHOTOMAKER_FOLDER)


def _digest(settings: Settings, photomaker_model_name: str, **_: Any) -> str:
    return settings.digests.of(folders(settings).find(PHOTOMAKER_FOLDER, photomaker_model_name))


@node("PhotoMakerLoader", category="loaders", version="1", outside=_digest, check=check_photomaker)
def photomaker_loader(
    settings: Settings, photomaker_model_name: Annotated[str, Choice(_names, "models/photomaker")]
) -> PhotoMakerWire:
    """Take a PhotoMaker (version 1) out of a file. The LoRA in the file is not applied."""
    return open_photomaker(folders(settings).find(PHOTOMAKER_FOLDER, photomaker_model_name), settings)


@node(
    "PhotoMakerEncode",
    category="conditioning/photomaker",
    version="1",
    lane="device",
    in_turns=True,
    environment=numerics,
    outside=text_outside,
    check=check_prompts,
)
def photomaker_encode(
    settings: Settings,
    photomaker: PhotoMakerWire,
    image: Annotated[Image, Help("of a batch, the first image is seen")],
    clip: ClipWire,
    text: Annotated[
        str,
        Multiline(words=True),
        Help("`photomaker` stands between blanks behind one word of one token: `a woman photomaker in a park`"),
    ] = "photograph of photomaker",
) -> Conditioning:
    """Encode a prompt for SDXL, and put who is on an image into the word in front of `photomaker`.

    That word is not in the prompt itself. A prompt without it is encoded as CLIPTextEncode does, and the image has no
    effect. The word in front is found by counting: each word before it stands for one token.
    """
    from ..devices.use import open_device
    from ..families.photomaker.network import fused
    from ..families.photomaker.text import without_trigger
    from ..families.text import encode_prompt
    from ..model.conditioning import to_wire

    place = place_of_trigger(text)
    if place is None:
        return encode(settings, clip, text)
    problem = misfit(photomaker, clip)
    if problem is not None:
        raise GraphFlowError([problem])
    options, device = embeddings_of(settings), open_device(settings)
    entries = encode_prompt(device, clip, without_trigger(clip, text, place, options), options)
    found = []
    with device.use(photomaker, "identity") as part:
        for entry in entries:
            assert entry.text is not None  # of CLIP's encoders
            if place >= len(entry.text):
                raise GraphFlowError([_too_late(place, len(entry.text))])
            states = entry.text.clone()
            states[place] = device.run(fused, part.module, image, states[place], photomaker.config)
            found.append(replace(entry, text=states))
    return to_wire(found)


def _too_late(place: int, states: int) -> Problem:
    return Problem(
        "trigger_too_late",
        f"`photomaker` stands behind {place} words, and the prompt has only {states} tokens",
        input="text",
        hint="put it nearer to the beginning, behind the word for the person",
    )
