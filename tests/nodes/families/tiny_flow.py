"""Small flow transformers, language models and a 16-channel VAE, written in the key layouts of real files.

The names of the original layouts are made here by replacing words, apart from the tables that read them. Widths are
multiples of 32, as in real models: a vector that a CPU does not fill is computed with other bits.
"""

import json
import re
from pathlib import Path

import torch
from diffusers import AutoencoderKL, Lumina2Transformer2DModel, ZImageTransformer2DModel
from graphflow_nodes.families.kits import kl_vae_network
from graphflow_nodes.families.kits.kl_vae import KL_VAE
from safetensors.torch import save_file
from transformers import Gemma2Config, Gemma2Model, Qwen3Config, Qwen3Model

from . import tiny

SPIECE = Path(__file__).parents[2] / "data" / "lumina2" / "spiece_gemma_like.model"
WIDTH = {"z_image": 32, "lumina2": 64}
"""Of the text."""
VAE_CONFIG = tiny.VAE_CONFIG | {"latent_channels": 16, "use_quant_conv": False, "use_post_quant_conv": False}


def z_image():
    module = ZImageTransformer2DModel(
        dim=96,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=3,
        n_kv_heads=3,
        cap_feat_dim=WIDTH["z_image"],
        axes_dims=[8, 12, 12],
        axes_lens=[512, 64, 64],
    )
    return tiny.filled(module, "z_image")


def lumina2():
    module = Lumina2Transformer2DModel(
        sample_size=16,
        hidden_size=96,
        num_layers=2,
        num_refiner_layers=1,
        num_attention_heads=4,
        num_kv_heads=2,
        multiple_of=8,
        cap_feat_dim=WIDTH["lumina2"],
        axes_dim_rope=(8, 8, 8),
    )
    return tiny.filled(module, "lumina2")


def qwen3():
    config = Qwen3Config(
        vocab_size=151936,
        hidden_size=WIDTH["z_image"],
        intermediate_size=48,
        num_hidden_layers=28,  # FLUX.2 is asked with three of them, the 27th for one
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        rope_theta=1e6,
        attn_implementation="sdpa",
    )
    return tiny.filled(Qwen3Model(config), "qwen3")


def gemma2():
    config = Gemma2Config(
        vocab_size=1000,
        hidden_size=WIDTH["lumina2"],
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=256,
        attn_implementation="eager",
        attn_logit_softcapping=None,
    )
    return tiny.filled(Gemma2Model(config), "gemma2")


def vae():
    return tiny.filled(kl_vae_network.build(VAE_CONFIG), "vae16")


def half(module):
    return {name: weight.half().contiguous() for name, weight in module.state_dict().items()}


FUSED = re.compile(r"\.to_([qkv])\.weight$")
Z_WORDS = (
    ("all_x_embedder.2-1.", "x_embedder."),
    ("all_final_layer.2-1.", "final_layer."),
    (".to_out.0.", ".out."),
    (".norm_q.", ".q_norm."),
    (".norm_k.", ".k_norm."),
)
LUMINA_WORDS = (
    ("time_caption_embed.caption_embedder.", "cap_embedder."),
    ("time_caption_embed.timestep_embedder.linear_1.", "t_embedder.mlp.0."),
    ("time_caption_embed.timestep_embedder.linear_2.", "t_embedder.mlp.2."),
    ("norm_out.linear_1.", "final_layer.adaLN_modulation.1."),
    ("norm_out.linear_2.", "final_layer.linear."),
    (".ffn_norm1.", ".ffn_one."),
    (".ffn_norm2.", ".ffn_two."),
    (".norm1.linear.", ".adaLN_modulation.1."),
    (".norm1.norm.", ".attention_norm1."),
    (".norm1.", ".attention_norm1."),
    (".norm2.", ".attention_norm2."),
    (".ffn_one.", ".ffn_norm1."),
    (".ffn_two.", ".ffn_norm2."),
    (".attn.", ".attention."),
    (".to_out.0.", ".out."),
    (".norm_q.", ".q_norm."),
    (".norm_k.", ".k_norm."),
    ("feed_forward.linear_", "feed_forward.w"),
)


def original(module):
    """The tensors of a file in the original layout, with the norm that the published files carry and nothing uses."""
    words = Z_WORDS if isinstance(module, ZImageTransformer2DModel) else LUMINA_WORDS
    weights, found = half(module), {}
    for name, weight in weights.items():
        cut = FUSED.search(name)
        if cut is not None and cut[1] != "q":
            continue
        if cut is not None:
            weight = torch.cat([weights[name.replace("to_q", f"to_{letter}")] for letter in "qkv"])
            name = name.replace("to_q", "qkv")
        for word, other in words:
            name = name.replace(word, other)
        found[name] = weight
    width = found["cap_embedder.1.weight"].shape[0]
    return {**found, "norm_final.weight": torch.ones(width, dtype=torch.float16)}


def prefixed(prefix, weights):
    return {prefix + name: weight for name, weight in weights.items()}


def tokenizer_tensor():
    return {"spiece_model": torch.frombuffer(bytearray(SPIECE.read_bytes()), dtype=torch.uint8)}


def qwen3_file():
    return prefixed("model.", half(qwen3()))


def gemma2_file():
    return {**prefixed("model.", half(gemma2())), **tokenizer_tensor()}


def vae_file():
    return tiny.written(vae(), KL_VAE.parts["vae"].layouts["ldm"](VAE_CONFIG))


DENOISERS = {"z_image": z_image, "lumina2": lumina2}
ENCODERS = {"z_image": ("qwen3_4b", qwen3_file), "lumina2": ("gemma2_2b", gemma2_file)}
FILES = {
    "z_image_turbo_bf16.safetensors": ("diffusion_models", lambda: original(z_image())),
    "lumina_2_model_bf16.safetensors": ("diffusion_models", lambda: original(lumina2())),
    "qwen_3_4b.safetensors": ("text_encoders", qwen3_file),
    "gemma_2_2b_fp16.safetensors": ("text_encoders", gemma2_file),
    "ae.safetensors": ("vae", vae_file),
}
"""Names of files in workflows -> folder and tensors of a small one."""


def save(models, name):
    """A small file under the name of a real one, in its folder below `models`."""
    folder, weights = FILES[name]
    path = models / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights(), path)
    return path


def checkpoint(family):
    """All in one file, as ComfyUI writes checkpoints."""
    encoder, encoder_file = ENCODERS[family]
    return {
        **prefixed("model.diffusion_model.", original(DENOISERS[family]())),
        **prefixed(f"text_encoders.{encoder}.transformer.", encoder_file()),
        **prefixed("vae.", vae_file()),
    }


def save_folder(place, family):
    """A diffusers folder with all its parts."""
    module = DENOISERS[family]().half()
    module.save_pretrained(place / "transformer")
    (qwen3 if family == "z_image" else gemma2)().half().save_pretrained(place / "text_encoder")
    vae_module = AutoencoderKL(**{name: list(v) if isinstance(v, tuple) else v for name, v in VAE_CONFIG.items()})
    vae_module.load_state_dict(vae().state_dict())
    vae_module.half().save_pretrained(place / "vae")
    (place / "tokenizer").mkdir()
    if family == "lumina2":
        (place / "tokenizer" / "tokenizer.model").write_bytes(SPIECE.read_bytes())
    else:
        from graphflow_nodes.families.kits.qwen_tokenizer import qwen_tokenizer

        qwen_tokenizer().save(str(place / "tokenizer" / "tokenizer.json"))
    named = {"z_image": ("ZImage", "Qwen3Model"), "lumina2": ("Lumina2", "Gemma2Model")}[family]
    index = {
        "_class_name": f"{named[0]}Pipeline",
        "text_encoder": ["transformers", named[1]],
        "vae": ["diffusers", "AutoencoderKL"],
        "tokenizer": ["transformers", "AutoTokenizer"],
        "transformer": ["diffusers", f"{named[0]}Transformer2DModel"],
    }
    (place / "model_index.json").write_text(json.dumps(index))
    return place
