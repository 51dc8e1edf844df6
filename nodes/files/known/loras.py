"""LoRA and its relatives: which kind, whose models it changes, how large it is, and who trained it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .keys import Keys

__all__ = ["LoraIdentity", "read_lora"]


@dataclass(frozen=True, slots=True)
class LoraIdentity:
    family: str
    """Of the models that it changes; "" where the names do not show it."""
    kind: str
    """`LoRA`, `LoCon`, `LoHa`, `LoKr`, `DoRA`, `OFT` ..."""
    rank: int
    """The most frequent one; 0 where the kind has none."""
    trainer: str
    modules: int
    parts: tuple[str, ...]
    """The parts that it changes: the denoiser, text encoders."""


_ENDINGS = (
    ("LoRA", "down", r"[._]?lora[._]?(?:linear_layer\.)?(?:down|A)(?:\.default)?(?:\.weight)?"),
    ("LoRA", "up", r"[._]?lora[._]?(?:linear_layer\.)?(?:up|B)(?:\.default)?(?:\.weight|\.bias)?"),
    ("LoRA", "down", r"\.(?:qkv|proj)_lora[12]\.down\.weight"),
    ("LoRA", "up", r"\.(?:qkv|proj)_lora[12]\.up\.weight"),
    ("LoCon", "mid", r"\.lora_mid\.weight"),
    ("DoRA", "scale", r"\.(?:dora_scale|lora_magnitude_vector(?:\.default)?(?:\.weight)?)"),
    ("LoHa", "down", r"\.hada_w[12]_b"),
    ("LoHa", "up", r"\.hada_(?:w[12]_a|t[12])"),
    ("LoKr", "one", r"\.lokr_w1(?:_[ab])?"),
    ("LoKr", "two", r"\.lokr_(?:w2(?:_[ab])?|t2)"),
    ("OFT", "blocks", r"\.oft_(?:blocks|diag)"),
    ("GLoRA", "down", r"\.b1\.weight"),
    ("GLoRA", "up", r"\.b2\.weight"),
    ("GLoRA", "more", r"\.a[12]\.weight"),
    ("difference", "diff", r"\.(?:diff|diff_b|set_weight)"),
    ("norm", "diff", r"\.(?:w_norm|b_norm)"),
)
"""Kind, role and the end of the name of a tensor of one module."""
_ENDING = re.compile("|".join(f"(?P<_{n}>{pattern})" for n, (_, _, pattern) in enumerate(_ENDINGS)))
_ENDING = re.compile(rf"^(?P<module>.+?)(?:{_ENDING.pattern})$")
_PRECEDENCE = ("DoRA", "LoHa", "LoKr", "OFT", "LoCon", "LoRA", "GLoRA", "difference", "norm")

_PREFIXES = re.compile(
    r"^(?:base_model[._]model[._]|diffusion_model[._]|model[._]diffusion_model[._]|transformer[._](?!blocks)|unet[._]"
    r"|lora_unet_+|lora_transformer_|lycoris_|lora_prior_unet_)+"
)
_TEXT = re.compile(
    r"^(?:base_model\.model\.)?(?:lora_te\d?_|text_encoder(?:_\d)?[._]|cond_stage_model\.|text_encoders?\.)"
)


def read_lora(keys: Keys, metadata: Mapping[str, str]) -> LoraIdentity | None:
    """None where the file is not a LoRA or one of its relatives."""
    kinds: Counter[str] = Counter()
    modules: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, info in keys.tensors.items():
        found = _ENDING.match(name)
        if found is None:
            continue
        kind, role, _ = _ENDINGS[next(n for n in range(len(_ENDINGS)) if found[f"_{n}"] is not None)]
        kinds[kind] += 1
        modules.setdefault(found["module"], {})[role + name[len(found["module"]) :][-2:] * (kind == "LoKr")] = (
            info.shape
        )
    if not modules or 2 * sum(kinds.values()) < sum(not name.endswith(".alpha") for name in keys.tensors):
        return None
    text = [name for name in modules if _TEXT.match(name)]
    denoiser = {_PREFIXES.sub("", name): shapes for name, shapes in modules.items() if not _TEXT.match(name)}
    names = _Names(denoiser, text)
    family = next((family for family, test in _FAMILIES if test(names)), "")
    ranks = Counter(shapes["down"][0] for shapes in modules.values() if shapes.get("down"))
    kind = next(kind for kind in _PRECEDENCE if kinds[kind])
    if kind == "LoRA" and any(
        len(shapes.get("down", ())) == 4 and shapes["down"][-1] > 1 for shapes in modules.values()
    ):
        kind = "LoCon"
    parts = (*(("denoiser",) if denoiser else ()), *sorted({_encoder(name) for name in text}))
    rank = ranks.most_common(1)[0][0] if ranks else 0
    return LoraIdentity(family, kind, rank, _trainer(keys, metadata), len(modules), parts)


def _encoder(name: str) -> str:
    found = re.match(r"lora_te(\d)_|text_encoder_(\d)", name)
    return f"text encoder {found[1] or found[2]}" if found else "text encoder"


class _Names:
    """Modules of the denoiser that a file changes, with `_` for every dot: trainers differ in where they write
    which."""

    def __init__(self, modules: Mapping[str, Mapping[str, tuple[int, ...]]], text: list[str]) -> None:
        self.dotted = "\n".join(modules)
        self.joined = self.dotted.replace(".", "_")
        self.shapes = {name.replace(".", "_"): shapes for name, shapes in modules.items()}
        self.text = "\n".join(text)

    def has(self, pattern: str) -> bool:
        return re.search(pattern, self.joined, re.MULTILINE) is not None

    def inputs(self, pattern: str) -> int:
        """Input features of the first module of that name; 0 where there is none, or its kind does not show them."""
        for name, shapes in self.shapes.items():
            if re.search(pattern, name):
                if len(down := shapes.get("down", ())) > 1:
                    return down[1]
                one = [shape for role, shape in shapes.items() if role.startswith("one") and len(shape) == 2]
                two = [shape for role, shape in shapes.items() if role.startswith("two") and len(shape) == 2]
                if one and two:
                    return one[-1][1] * two[-1][1]
                if len(diff := shapes.get("diff", ())) > 1:
                    return diff[1]
        return 0

    def most(self, pattern: str) -> int:
        """The largest number that a pattern captures, -1 where there is none."""
        return max((int(found) for found in re.findall(pattern, self.joined, re.MULTILINE)), default=-1)


def _unet(*context: int) -> Callable[[_Names], bool]:
    return lambda names: names.inputs(r"attn2_(?:processor_)?to_k") in context


def _has(pattern: str) -> Callable[[_Names], bool]:
    return lambda names: names.has(pattern)


_FOUR_LEVELS = r"""(?x)^(?:down_blocks_0_attentions | down_blocks_3_ | up_blocks_3_
    | input_blocks_(?:[12]_1 | 9_ | 10_ | 11_) | output_blocks_(?:9_ | 10_ | 11_))"""
"""Places that a U-Net of four levels has and SDXL's has not. Widths tell 1.x from 2.x, where a kind shows them."""

_FAMILIES: tuple[tuple[str, Callable[[_Names], bool]], ...] = (
    ("sdxl_refiner", _unet(1280)),
    ("sdxl", _unet(2048)),
    ("sd2", _unet(1024)),
    ("sd1", _unet(768)),
    ("sdxl", _has(r"(?:input_blocks_[78]_1|output_blocks_0_1|down_blocks_2_attentions_1)_transformer_blocks_[2-9]")),
    ("sd1", _has(_FOUR_LEVELS)),
    ("sd3", _has(r"joint_blocks_\d+_(?:x_block|context_block)")),
    (
        "hunyuan_video",
        lambda names: (
            names.has(r"double_blocks_\d+_img_(?:mlp_fc|mod_linear)|individual_token_refiner")
            or re.search(r"double_blocks\.\d+\.img_attn_qkv", names.dotted) is not None
        ),
    ),
    ("flux3", _has("early_stream_modulations")),
    (
        "flux2",
        lambda names: (
            names.has("double_stream_modulation|to_qkv_mlp_proj|transformer_blocks_\\d+_ff_linear_in")
            or (names.has("double_blocks_|single_blocks_") and names.inputs("img_attn|single_blocks_") in (4096, 6144))
            or 0 < _rows(names, "single_blocks_\\d+_linear1") == 9 * names.inputs("single_blocks_\\d+_linear1")
        ),
    ),
    ("chroma", _has("distilled_guidance_layer")),
    (
        "flux",
        _has(
            r"double_blocks_\d+_(?:img|txt)_(?:attn|mlp|mod)_|single_blocks_\d+_(?:linear|modulation)"
            r"|single_transformer_blocks_\d+|double_blocks_\d+_processor"
        ),
    ),
    ("hidream", _has(r"(?:double|single)_stream_blocks_\d+_block")),
    (
        "qwen_image",
        lambda names: (
            names.has(r"transformer_blocks_\d+_(?:img|txt)_(?:mlp|mod)")
            or (names.has("attn_add_[qkv]_proj") and names.most(r"transformer_blocks_(\d+)_attn_add") > 37)
        ),
    ),
    ("sd3", lambda names: names.has("attn_add_[qkv]_proj") and names.inputs("attn_add_q_proj") in (1536, 2432)),
    (
        "z_image",
        lambda names: (
            names.inputs(r"layers_\d+_attention_(?:qkv|to_q)") == 3840 or names.has("siglip_refiner|all_x_embedder")
        ),
    ),
    ("lumina2", _has(r"layers_\d+_attention_(?:qkv|to_q)")),
    ("krea2", _has(r"blocks_\d+_attn_wq|txtfusion")),
    ("anima", _has(r"blocks_\d+_(?:self|cross)_attn_(?:q|k|v|output)_proj|llm_adapter")),
    ("wan", _has(r"blocks_\d+_(?:self|cross)_attn_(?:q|k|v|o|k_img|v_img)$|blocks_\d+_ffn_[02]$")),
    ("auraflow", _has("double_layers_|single_layers_")),
    ("kandinsky5", _has("visual_transformer_blocks")),
    ("ernie_image", _has(r"layers_\d+_mlp_linear_fc")),
    ("ltx2", _has("audio_(?:attn|ff|to_video)|video_to_audio")),
    ("pixart", lambda names: names.inputs(r"^transformer_blocks_\d+_attn1_to_q") == 1152),
    ("ltx", _has(r"^transformer_blocks_\d+_attn1_to_q")),
    ("mochi", _has(r"blocks_\d+_attn_qkv_[xy]")),
    ("krea2", lambda names: names.has(r"^transformer_blocks_\d+_attn_to_q") and not names.has("attn_add_")),
    ("sdxl", lambda names: "lora_te2_text_model" in names.text or "text_encoder_2" in names.text),
    ("sd1", lambda names: "lora_te_text_model" in names.text),
)


def _rows(names: _Names, pattern: str) -> int:
    for name, shapes in names.shapes.items():
        if re.search(pattern, name) and (up := shapes.get("up")):
            return up[0]
    return 0


def _trainer(keys: Keys, metadata: Mapping[str, str]) -> str:
    noted = " ".join((*metadata, metadata.get("software", ""))).lower()
    for word, title in (
        ("ai-toolkit", "AI-Toolkit"),
        ("onetrainer", "OneTrainer"),
        ("ot_config", "OneTrainer"),
        ("simpletuner", "SimpleTuner"),
        ("musubi", "musubi-tuner"),
    ):
        if word in noted:
            return title
    if "ss_network_module" in metadata or "ss_network_dim" in metadata:
        return "musubi-tuner" if "musubi" in metadata.get("ss_network_module", "") else "sd-scripts (kohya)"
    if keys.starts("lycoris_"):
        return "SimpleTuner"
    if keys.starts("lora_unet_", "lora_te"):
        return "sd-scripts (kohya)"
    if "lora_adapter_metadata" in metadata:
        return "diffusers"
    return "PEFT" if keys.contains(r"\.lora_A\.") else ""
