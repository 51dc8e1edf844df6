"""A small HiDream and a small Llama 3.1 in the key layout of real files, with random weights, and a vocabulary."""

from functools import cache

import torch
from graphflow_nodes.families.hidream import LLAMA_LAYERS, network
from graphflow_nodes.families.kits import language_model_network
from graphflow_nodes.families.kits.language_model import LLAMA3_ROPE
from graphflow_nodes.model.config import Config
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from . import tiny as t
from . import tiny_transformers as tt

LLAMA_WIDTH = 128
CONFIG = Config(
    patch_size=2,
    in_channels=16,
    out_channels=16,
    num_layers=1,
    num_single_layers=2,
    attention_head_dim=128,
    num_attention_heads=1,
    caption_channels=(tt.T5_WIDTH, LLAMA_WIDTH),
    text_emb_dim=2 * tt.CLIP_WIDTH,
    num_routed_experts=3,
    num_activated_experts=2,
    axes_dims_rope=(64, 32, 32),
    max_resolution=(128, 128),
    llama_layers=(0, 1, 2),
)
LLAMA = Config(
    rope_parameters=LLAMA3_ROPE,
    rms_norm_eps=1e-5,
    kind="llama",
    vocab_size=128256,
    hidden_size=LLAMA_WIDTH,
    intermediate_size=32,
    num_hidden_layers=LLAMA_LAYERS,
    num_attention_heads=1,
    num_key_value_heads=1,
    head_dim=128,
    file_format="float16",
)


def denoiser():
    return t.filled(network.build(CONFIG), "hidream")


@cache
def llama():
    return t.filled(language_model_network.build(LLAMA), "llama")


def half(module, prefix=""):
    return {prefix + name: weight.half().contiguous() for name, weight in module.state_dict().items()}


def save_vocabulary(models_folder):
    """Llama's vocabulary where users put it, with the 256 bytes for tokens."""
    folder = models_folder / "tokenizers" / "llama3"
    folder.mkdir(parents=True, exist_ok=True)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: number for number, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def _t5(models):
    tt.save(models / "text_encoders" / "t5xxl_fp8_e4m3fn_scaled.safetensors", tt.t5_weights())
    tt.save_vocabulary(models)


def _llama(models):
    tt.save(models / "text_encoders" / "llama_3.1_8b_instruct_fp8_scaled.safetensors", half(llama(), "model."))
    save_vocabulary(models)


def _clip(letter):
    name = f"clip_{letter}_hidream.safetensors"
    return name, lambda models: tt.save(models / "text_encoders" / name, tt.clip_weights(letter))


FILES = {
    "hidream_i1_dev_bf16.safetensors": lambda models: tt.save(
        models / "diffusion_models" / "hidream_i1_dev_bf16.safetensors", half(denoiser())
    ),
    **dict(_clip(letter) for letter in "lg"),
    "t5xxl_fp8_e4m3fn_scaled.safetensors": _t5,
    "llama_3.1_8b_instruct_fp8_scaled.safetensors": _llama,
    "ae.safetensors": tt.FILES["ae.safetensors"],
}
"""Names of files in workflows -> what writes a small one into a models folder."""


def save_models(folder):
    for write in FILES.values():
        write(folder)
    return folder


def entry_values(seed=0):
    """T5's states, Llama's, and the pooled vector."""
    numbers = torch.Generator().manual_seed(seed)
    return (
        torch.randn(9, tt.T5_WIDTH, generator=numbers),
        torch.randn(LLAMA_LAYERS, 7, LLAMA_WIDTH, generator=numbers),
        torch.randn(2 * tt.CLIP_WIDTH, generator=numbers),
    )
