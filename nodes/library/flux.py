"""FLUX: prompts for two encoders, guidance as a number, how T5's texts are filled up, references of klein at time 0."""

from typing import Annotated

from graphflow import Conditioning, GraphFlowError, Multiline, Problem, Range, Settings, node

from ..devices.environment import numerics
from ..model.wires import ClipWire, ModelWire
from .conditioning import check_prompts, encode, prompts_outside

_Words = Annotated[str, Multiline(words=True)]
_Guidance = Annotated[float, Range(0.0, 100.0, 0.1)]
_Tokens = Annotated[int, Range(0, 10000, 1)]


@node(
    "CLIPTextEncodeFlux",
    category="advanced/conditioning/flux",
    display_name="CLIPTextEncodeFlux",
    version="1",
    lane="device",
    in_turns=True,
    environment=numerics,
    outside=prompts_outside,
    check=check_prompts,
)
def clip_text_encode_flux(
    settings: Settings, clip: ClipWire, clip_l: _Words, t5xxl: _Words, guidance: _Guidance = 3.5
) -> Conditioning:
    """Encode a prompt for each of FLUX.1's text encoders (CLIP-L takes words, T5 sentences), and state the guidance."""
    found = encode(settings, clip, t5xxl, **{"text.l": clip_l, "text.t5": t5xxl})
    return _with_guidance(found, guidance)


@node("FluxGuidance", category="advanced/conditioning/flux", display_name="FluxGuidance", version="1")
def flux_guidance(conditioning: Conditioning, guidance: _Guidance = 3.5) -> Conditioning:
    """How closely a model that was distilled with guidance keeps to the prompt; 3.5 where none is stated.

    It costs nothing: leave cfg at 1. Kontext is made for 2.5, Fill for 30.
    """
    return _with_guidance(conditioning, guidance)


@node("FluxDisableGuidance", category="advanced/conditioning/flux", display_name="FluxDisableGuidance", version="1")
def flux_disable_guidance(conditioning: Conditioning) -> Conditioning:
    """Ask the model without a number for its guidance."""
    return [(text, {**options, "guidance": None, "no_guidance": True}) for text, options in conditioning]


@node("T5TokenizerOptions", category="advanced/conditioning", display_name="T5TokenizerOptions", version="1")
def t5_tokenizer_options(clip: ClipWire, min_padding: _Tokens = 0, min_length: _Tokens = 0) -> ClipWire:
    """Fill texts for T5 up with at least `min_padding` empty tokens, and to `min_length` tokens in all, instead of what
    the family does by itself."""
    from ..families.kits.t5_network import Padding

    if "text.t5" not in dict(clip.sources):
        raise GraphFlowError(
            [
                Problem(
                    "no_such_part",
                    f"these text encoders ({clip.family.title}) have no T5",
                    input="clip",
                    hint="leave this node out",
                )
            ]
        )
    return clip.with_patch(Padding(min_padding, min_length))


@node("FluxKVCache", category="advanced/model", display_name="FluxKVCache", version="2")
def flux_kv_cache(model: ModelWire) -> ModelWire:
    """For the FLUX.2 klein that was trained for a cache of reference images: they have time 0 and see only each other,
    so what the image sees of them is computed once a run.

    Another klein gives other images with it, and worse ones. Without reference images it changes nothing.
    """
    from ..families.flux2.references import ReferencesAtZero

    if model.family.name != "flux2":
        raise GraphFlowError(
            [
                Problem(
                    "wrong_model",
                    f"FluxKVCache is for FLUX.2 klein, and the model is of {model.family.title}",
                    input="model",
                    hint="leave this node out",
                )
            ]
        )
    return model.with_patch(ReferencesAtZero())


def _with_guidance(conditioning: Conditioning, guidance: float) -> Conditioning:
    return [
        (text, {**{name: value for name, value in options.items() if name != "no_guidance"}, "guidance": guidance})
        for text, options in conditioning
    ]
