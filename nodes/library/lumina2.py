"""Nodes of Lumina 2: prompts with its system prompts, and its form of guidance."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from graphflow import Choice, Conditioning, GraphFlowError, Multiline, Range, Settings, node

from ..devices.environment import numerics
from ..model.wires import ClipWire, ModelWire

SYSTEM_PROMPTS = {
    "superior": "You are an assistant designed to generate superior images with the superior degree of image-text "
    "alignment based on textual prompts or user prompts.",
    "alignment": "You are an assistant designed to generate high-quality images with the highest degree of image-text "
    "alignment based on textual prompts.",
}
"""Those that the model was trained with."""
_Level = Annotated[float, Range(0.0, 100.0, 0.01)]


def _check(settings: Settings, literals: Mapping[str, Any], _: Mapping[str, str]) -> Iterator[tuple[str | None, str]]:
    """Prompts that cannot be read."""
    from ..families.kits.prompt import parse_weights

    if isinstance(literals.get("user_prompt"), str):
        try:
            parse_weights(literals["user_prompt"])
        except GraphFlowError as error:
            yield from (("user_prompt", problem.message) for problem in error.problems)


@node(
    "CLIPTextEncodeLumina2",
    category="conditioning",
    display_name="CLIP Text Encode for Lumina2",
    version="1",
    lane="device",
    in_turns=True,
    environment=numerics,
    check=_check,
)
def clip_text_encode_lumina2(
    settings: Settings,
    system_prompt: Annotated[str, Choice(tuple(SYSTEM_PROMPTS))],
    user_prompt: Annotated[str, Multiline(words=True)],
    clip: ClipWire,
) -> Conditioning:
    """Encode a prompt behind one of the two system prompts that Lumina 2 was trained with.

    `superior` asks for a beautiful image, `alignment` for one that follows the prompt closely.
    """
    from ..devices.use import open_device
    from ..families.text import encode_prompt
    from ..model.conditioning import to_wire

    prompt = f"{SYSTEM_PROMPTS[system_prompt]} <Prompt Start> {user_prompt}"
    return to_wire(encode_prompt(open_device(settings), clip, prompt, {}))


@node("RenormCFG", category="advanced/model", display_name="RenormCFG", version="1")
def renorm_cfg(model: ModelWire, cfg_trunc: _Level = 100.0, renorm_cfg: _Level = 1.0) -> ModelWire:
    """Guidance without burnt colours: the guided latent is at most `renorm_cfg` times as long as the one with the
    prompt.

    0 leaves its length as it is. Noise levels from `cfg_trunc` on are without guidance.
    """
    from ..patches.guidance import RenormCFG

    return model.with_patch(RenormCFG(cfg_trunc, renorm_cfg))
