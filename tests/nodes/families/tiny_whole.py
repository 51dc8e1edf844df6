"""Families of more than one text encoder, whole: a checkpoint with everything in it, and a diffusers folder.

Each is made of the files of a shipped workflow: of a diffusion model, its text encoders and its VAE.
"""

import json
import shutil
from dataclasses import dataclass

from diffusers import AutoencoderKL, ChromaTransformer2DModel, FluxTransformer2DModel, SD3Transformer2DModel
from graphflow_nodes.families.kits.clip import VOCABULARY
from safetensors.torch import save_file

from . import (
    denoisers,
    tiny,
    tiny_flux2,
    tiny_flux3,
    tiny_hidream,
    tiny_ideogram4,
    tiny_kandinsky5,
    tiny_modern,
    tiny_qwen,
)
from . import tiny_transformers as tt

PREFIX = tt.PREFIX


def plain(config):
    return {name: list(value) if isinstance(value, tuple) else value for name, value in dict(config).items()}


def published(kind, config, module):
    """The class of diffusers with the weights of our module."""
    real = kind(**plain(config))
    real.load_state_dict(module.state_dict())
    return real


def clip_folder(place, letter, number, projection):
    """A text encoder of CLIP with its tokenizer; `number`: `` or `_2`."""
    config, _ = tt.clip_module(letter, projection)
    kind = "CLIPTextModelWithProjection" if projection else "CLIPTextModel"
    stated = {name: value for name, value in plain(config).items() if name not in ("pad", "projection")}
    (place / f"text_encoder{number}").mkdir(parents=True)
    weights = {n: w for n, w in tt.clip_weights(letter).items() if projection or not n.startswith("text_projection")}
    save_file(weights, place / f"text_encoder{number}" / "model.safetensors")
    about = json.dumps({"architectures": [kind], "model_type": "clip_text_model", **stated})
    (place / f"text_encoder{number}" / "config.json").write_text(about)
    shutil.copytree(VOCABULARY, place / f"tokenizer{number}")
    pad = "!" if letter == "g" else "<|endoftext|>"
    (place / f"tokenizer{number}" / "tokenizer_config.json").write_text(json.dumps({"pad_token": pad}))


def t5_folder(place, number):
    (place / f"text_encoder{number}").mkdir(parents=True)
    save_file(tt.t5_weights(), place / f"text_encoder{number}" / "model.safetensors")
    stated = {"architectures": ["T5EncoderModel"], "model_type": "t5"}
    (place / f"text_encoder{number}" / "config.json").write_text(json.dumps(stated))
    tiny_modern.t5_vocabulary(place / f"tokenizer{number}")


def llama_folder(place, number):
    (place / f"text_encoder{number}").mkdir(parents=True)
    weights = tiny_hidream.half(tiny_hidream.llama(), "model.")
    save_file(weights, place / f"text_encoder{number}" / "model.safetensors")
    rope = dict(tiny_hidream.LLAMA.rope_parameters)
    stated = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "rope_parameters": rope}
    (place / f"text_encoder{number}" / "config.json").write_text(json.dumps(stated))
    found = tiny_hidream.save_vocabulary(place / "models")
    shutil.copytree(found, place / f"tokenizer{number}")
    shutil.rmtree(place / "models")


def vae16_folder(place):
    published(AutoencoderKL, tt.VAE, tt.vae_module()).half().save_pretrained(place / "vae")


def flux_folder(place):
    published(FluxTransformer2DModel, *tt.transformer("flux")).half().save_pretrained(place / "transformer")
    clip_folder(place, "l", "", projection=False)
    t5_folder(place, "_2")
    vae16_folder(place)
    return tiny_modern.save_index(place, "FluxPipeline", transformer="FluxTransformer2DModel")


def flux_checkpoint():
    config, module = tt.transformer("flux")
    return {
        **tt.denoiser_weights("flux", config, module, "bfl", PREFIX),
        **tt.clip_weights("l", prefix="text_encoders.clip_l.transformer."),
        **tt.t5_weights("text_encoders.t5xxl.transformer."),
        **tt.vae_weights("vae."),
    }


def three_encoders(place):
    """CLIP-L, CLIP-G and T5 of a diffusers folder, as Stable Diffusion 3 and HiDream have them."""
    clip_folder(place, "l", "", projection=True)
    clip_folder(place, "g", "_2", projection=True)
    t5_folder(place, "_3")


def sd3_folder(place):
    published(SD3Transformer2DModel, *tt.transformer("sd3")).half().save_pretrained(place / "transformer")
    three_encoders(place)
    vae16_folder(place)
    return tiny_modern.save_index(place, "StableDiffusion3Pipeline", transformer="SD3Transformer2DModel")


def chroma_module():
    return tiny.filled(denoisers.chroma_network.build(denoisers.CHROMA), "chroma")


def chroma_folder(place):
    published(ChromaTransformer2DModel, denoisers.CHROMA, chroma_module()).half().save_pretrained(place / "transformer")
    t5_folder(place, "")
    vae16_folder(place)
    return tiny_modern.save_index(place, "ChromaPipeline", transformer="ChromaTransformer2DModel")


def chroma_checkpoint():
    return {
        **tiny.written(chroma_module(), denoisers.chroma.LAYOUTS["original"](denoisers.CHROMA), PREFIX),
        **tt.t5_weights("text_encoders.t5xxl.transformer."),
        **tt.vae_weights("vae."),
    }


def flux3_folder(place):
    tiny_flux3.denoiser(True).half().save_pretrained(place / "transformer")
    tiny_modern.save_qwen3_vl(place)
    tiny_flux2.save_vae(place / "vae")
    return tiny_modern.save_index(place, "Flux3Pipeline", transformer="Flux3Transformer2DModel")


def flux3_checkpoint():
    return {
        **tiny_flux3.denoiser_file(True, prefix=PREFIX),
        **tiny_modern.qwen3_vl_file("text_encoders.qwen3vl_4b.transformer."),
        **tiny_modern.prefixed("vae.", tiny_flux2.vae_file()),
    }


def hidream_folder(place):
    tiny_hidream.denoiser().half().save_pretrained(place / "transformer")
    three_encoders(place)
    llama_folder(place, "_4")
    vae16_folder(place)
    return tiny_modern.save_index(place, "HiDreamImagePipeline", transformer="HiDreamImageTransformer2DModel")


def hidream_checkpoint():
    return {
        **tiny_hidream.half(tiny_hidream.denoiser(), PREFIX),
        **tt.clip_weights("l", prefix="text_encoders.clip_l.transformer."),
        **tt.clip_weights("g", prefix="text_encoders.clip_g.transformer."),
        **tt.t5_weights("text_encoders.t5xxl.transformer."),
        **tiny_hidream.half(tiny_hidream.llama(), "text_encoders.llama.transformer.model."),
        **tt.vae_weights("vae."),
    }


def ideogram4_folder(place):
    tiny_ideogram4.denoiser().half().save_pretrained(place / "transformer")
    tiny_ideogram4.denoiser("unconditional").half().save_pretrained(place / "unconditional_transformer")
    tiny_modern.save_qwen3_vl(place)
    tiny_flux2.save_vae(place / "vae")
    return tiny_modern.save_index(place, "Ideogram4Pipeline", transformer="Ideogram4Transformer2DModel")


def ideogram4_checkpoint():
    return {
        **tiny_modern.prefixed(PREFIX, tiny_ideogram4.denoiser_file("original")),
        **tiny_modern.qwen3_vl_file("text_encoders.qwen3vl_8b.transformer."),
        **tiny_modern.prefixed("vae.", tiny_flux2.vae_file()),
    }


def kandinsky5_folder(place):
    from diffusers import Kandinsky5Transformer3DModel

    module = published(Kandinsky5Transformer3DModel, tiny_kandinsky5.CONFIG, tiny_kandinsky5.denoiser())
    module.half().save_pretrained(place / "transformer")
    tiny_qwen.save_text(place)
    clip_folder(place, "l", "_2", projection=False)
    vae16_folder(place)
    return tiny_modern.save_index(place, "Kandinsky5T2IPipeline", transformer="Kandinsky5Transformer3DModel")


def kandinsky5_checkpoint():
    return {
        **tiny_kandinsky5.denoiser_file(PREFIX),
        **tiny_qwen.text_file("text_encoders.qwen25_7b.transformer."),
        **tt.clip_weights("l", prefix="text_encoders.clip_l.transformer."),
        **tt.vae_weights("vae."),
    }


def sd3_checkpoint():
    config, module = tt.transformer("sd3")
    found = tt.denoiser_weights("sd3", config, module, "mmdit", PREFIX)
    for letter in "lg":
        found |= tt.clip_weights(letter, prefix=f"text_encoders.clip_{letter}.transformer.")
    return found | tt.t5_weights("text_encoders.t5xxl.transformer.") | tt.vae_weights("first_stage_model.")


@dataclass(frozen=True)
class Whole:
    """What writes the files of a family that its shipped workflow is run from."""

    workflow: str
    checkpoint: object
    """Returns its tensors."""
    folder: object
    files: dict
    """Those that are beside: vocabularies, and what a checkpoint or a folder does not hold."""


T5 = {"t5": tt.save_vocabulary}
WHOLE = {
    "flux": Whole("flux_dev", flux_checkpoint, flux_folder, T5),
    "sd3": Whole("sd35", sd3_checkpoint, sd3_folder, T5),
    "qwen_image": Whole("qwen_image", tiny_qwen.checkpoint, tiny_qwen.save_folder, {}),
    "chroma": Whole("chroma", chroma_checkpoint, chroma_folder, T5),
    "flux3": Whole("flux3_klein", flux3_checkpoint, flux3_folder, {}),
    "hidream": Whole("hidream", hidream_checkpoint, hidream_folder, T5 | {"llama": tiny_hidream.save_vocabulary}),
    "ideogram4": Whole("ideogram4", ideogram4_checkpoint, ideogram4_folder, tiny_ideogram4.FILES),
    "kandinsky5": Whole("kandinsky5", kandinsky5_checkpoint, kandinsky5_folder, {}),
}
