"""Stable Diffusion 1.x and 2.x, with their variants for inpainting (9 channels) and for editing (8 channels).

Both are U-Nets with integer times, asked with the states of one text encoder: CLIP-L (1.x, 768 wide) or CLIP-H (2.x,
1024 wide, the last layer but one). High-Resolution Image Synthesis with Latent Diffusion Models, arXiv 2112.10752.
"""

from __future__ import annotations

from statistics import pstdev

from ...files.header import Header
from ...model.config import Config
from ...model.family import Family, Found, TextFound
from ..kits import checkpoint, clip, unet
from ..kits.peek import peek

__all__ = ["LATENT", "SD1", "SD2"]

LATENT = {
    "scale": 0.18215,
    "preview": (
        (0.064, 0.039, 0.037),
        (0.038, 0.036, 0.036),
        (-0.029, 0.042, 0.029),
        (-0.034, -0.026, -0.090),
    ),
}
VARIANTS = {9: "inpainting", 8: "instruct-pix2pix", 5: "depth"}
_V_STATES = (
    "output_blocks.11.1.transformer_blocks.0.norm1.bias",
    "up_blocks.3.attentions.2.transformer_blocks.0.norm1.bias",
)
V_DEVIATION = 0.09


def _recognise_1(header: Header) -> Found | None:
    found = unet.find(header)
    if found is None or unet.takes_sizes(found.config) or _is_2(found.config):
        return None
    texts = {"text.l": clip.find(header, "cond_stage_model.transformer.", "text_encoder")}
    predicts = checkpoint.stated_prediction(header) or Config(kind="epsilon")
    return _assemble(header, found, texts, predicts)


def _recognise_2(header: Header) -> Found | None:
    found = unet.find(header)
    if found is None or unet.takes_sizes(found.config) or not _is_2(found.config):
        return None
    text = clip.find(header, "cond_stage_model.model.", "text_encoder", projection=True)
    texts = {"text.h": text or clip.find(header, "cond_stage_model.transformer.", projection=True)}
    predicts = checkpoint.stated_prediction(header) or Config(kind=_kind(header, found))
    return _assemble(header, found, texts, predicts)


def _assemble(
    header: Header, found: unet.UnetFound, texts: dict[str, TextFound | None], predicts: Config
) -> Found | None:
    channels = found.config.in_channels
    variant = VARIANTS.get(channels, "" if channels == found.config.out_channels else f"{channels} channels")
    if predicts.kind == "v":
        variant = f"{variant}, v-prediction".strip(", ")
    # Editing models of 1.x take the image's latent as it is, not in the model's unit.
    return checkpoint.assemble(header, found, texts, predicts, LATENT, variant, concat_scaled=channels != 8)


def _is_2(config: Config) -> bool:
    """2.x has linear projections around its transformers, 1.x convolutions."""
    return bool(config.get("use_linear_projection"))


def _kind(header: Header, found: unet.UnetFound) -> str:
    """v for the models of 768 pixels, epsilon for those of 512 and for inpainting. No name in a file tells them apart;
    the spread of one bias does: it grew larger in training for v."""
    if found.config.in_channels != found.config.out_channels:
        return "epsilon"
    numbers = next((read for name in _V_STATES if (read := peek(header, found.prefix + name))), ())
    return "v" if numbers and pstdev(numbers) > V_DEVIATION else "epsilon"


SD1 = Family(
    name="sd1",
    version="1",
    title="Stable Diffusion 1.x",
    recognise=_recognise_1,
    parts={
        "denoiser": checkpoint.DENOISER,
        "text.l": clip.part_of("l", "transformers", "cond_stage_model.transformer."),
    },
    latent=checkpoint.latent_format,
    prediction=checkpoint.prediction,
    network="graphflow_nodes.families.kits.unet_network",
    text=f"{__name__}.text",
    prompts={"": [("l",)]},
    text_width=lambda config: int(config["text.l"].hidden_size),
    takes=checkpoint.TAKES,
    ports=unet.PORTS,
)
SD2 = Family(
    name="sd2",
    version="1",
    title="Stable Diffusion 2.x",
    recognise=_recognise_2,
    parts={"denoiser": checkpoint.DENOISER, "text.h": clip.part_of("h", "openclip", "cond_stage_model.model.")},
    latent=checkpoint.latent_format,
    prediction=checkpoint.prediction,
    network="graphflow_nodes.families.kits.unet_network",
    text=f"{__name__}.text",
    prompts={"": [("h",)]},
    text_width=lambda config: int(config["text.h"].hidden_size),
    takes=checkpoint.TAKES,
    ports=unet.PORTS,
)
