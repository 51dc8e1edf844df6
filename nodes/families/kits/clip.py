"""The text encoders of CLIP: their configs from shapes, and their tables. Imports no torch.

Configs are the arguments of transformers' CLIPTextConfig, with `pad` (the token that fills a chunk; None: the end
token) and `projection` (whether the pooled vector is projected). Layouts: `transformers` (with or without `text_model.`
before its names) and `openclip`, where q, k and v are one tensor and the projection is transposed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...files.convert import Table, TensorPlace
from ...files.header import Header, read_config
from ...model.config import Config
from ...model.family import Part, TextFound

__all__ = ["LAYOUTS", "UNUSED", "VOCABULARY", "find", "find_any", "part_of"]

Shape = tuple[int, ...]
UNUSED = ("*position_ids", "logit_scale", "text_projection*", "text_model.text_projection*")
"""The tensors of files that a text encoder has no use for; the projection only where the family takes none."""
VOCABULARY = Path(__file__).with_name("clip_vocabulary")
"""The tokenizer of all CLIP text encoders. A diffusers folder brings its own."""
_NAMES = {"l": "text encoder CLIP-L", "h": "text encoder CLIP-H", "g": "text encoder CLIP-G"}


def part_of(letter: str, layout: str, prefix: str) -> Part:
    """The part `text.l` (`h`, `g`) of a family; `layout` and `prefix` are those that it has in checkpoints."""
    return Part(
        build=f"{__package__}.clip_network:build",
        layouts=LAYOUTS,
        title=_NAMES[letter],
        dtype="float32",  # small beside a denoiser, asked once a prompt, and what it says shows in every pixel
        unused=UNUSED,
        find=find_any,
        saved=(layout, prefix),
    )


def find(header: Header, prefix: str, folder: str = "", projection: bool = False) -> TextFound | None:
    """The text encoder of a file whose names begin with `prefix`, or of the part `folder` of a diffusers folder.

    None where there is none. `projection`: its pooled vector is projected.
    """
    if header.format != "diffusers":
        return _in_shapes({name: info.shape for name, info in header.tensors.items()}, prefix, projection)
    stated = header.configs.get(folder)
    if stated is None or not str((stated.get("architectures") or [""])[0]).startswith("CLIPText"):
        return None
    prefix = f"{folder}/" if folder else ""
    shapes = {name: info.shape for name, info in header.tensors.items() if name.startswith(prefix)}
    found = _in_shapes(shapes, prefix, projection) or TextFound(Config(), "bare", prefix)
    tokenizer = header.path / folder.replace("text_encoder", "tokenizer") / "tokenizer_config.json"
    return replace(found, config=_from_json(stated, read_config(tokenizer) if tokenizer.is_file() else {}))


def find_any(header: Header) -> tuple[str, TextFound] | None:
    """A text encoder that is a file or a folder by itself: its letter (`l`, `h`, `g`) and what was found."""
    found = find(header, "", "", projection=True)
    if found is None:
        return None
    layers = found.config.num_hidden_layers
    letter = "g" if layers > 30 else "h" if layers > 22 else "l"
    return letter, found


def _in_shapes(shapes: Mapping[str, Shape], prefix: str, projection: bool) -> TextFound | None:
    for layout, tokens, positions, block, widest in (
        (
            "transformers",
            "text_model.embeddings.token_embedding.weight",
            "text_model.embeddings.position_embedding.weight",
            "text_model.encoder.layers.{}",
            "mlp.fc1.weight",
        ),
        (
            "bare",
            "embeddings.token_embedding.weight",
            "embeddings.position_embedding.weight",
            "encoder.layers.{}",
            "mlp.fc1.weight",
        ),
        ("openclip", "token_embedding.weight", "positional_embedding", "transformer.resblocks.{}", "mlp.c_fc.weight"),
    ):
        first = f"{prefix}{block.format(0)}.{widest}"
        if not all(name in shapes for name in (prefix + tokens, prefix + positions, first)):
            continue
        count = 0
        while f"{prefix}{block.format(count)}.{widest}" in shapes:
            count += 1
        (vocabulary, width), positions_count = shapes[prefix + tokens], shapes[prefix + positions][0]
        projected = shapes.get(f"{prefix}text_projection" + ("" if layout == "openclip" else ".weight"))
        config = Config(
            vocab_size=vocabulary,
            hidden_size=width,
            intermediate_size=shapes[first][0],
            num_hidden_layers=count,
            num_attention_heads=max(1, width // 64),
            max_position_embeddings=positions_count,
            # 12 layers: OpenAI's CLIP-L; more: OpenCLIP's H (24) and G (32), with another activation and padding.
            hidden_act="quick_gelu" if count <= 12 else "gelu",
            pad=None if count <= 12 else 0,
            projection=projection and projected is not None,
            projection_dim=(projected[1 if layout == "openclip" else 0] if projected else width),
            bos_token_id=vocabulary - 2,
            eos_token_id=vocabulary - 1,
        )
        return TextFound(config, layout, prefix)
    return None


_ARGUMENTS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "projection_dim",
    "max_position_embeddings",
    "hidden_act",
    "layer_norm_eps",
)


def _from_json(stated: Mapping[str, Any], tokenizer: Mapping[str, Any]) -> Config:
    """The config of a diffusers folder; its tokenizer states what pads a chunk."""
    padding = tokenizer.get("pad_token")
    padding = padding.get("content") if isinstance(padding, Mapping) else padding
    pad = 0 if padding == "!" else None
    found = {"max_position_embeddings": 77, **{key: stated[key] for key in _ARGUMENTS if key in stated}}
    # Old configs state 0 and 2 as the tokens that begin and end a text; they are the last two of the vocabulary.
    vocabulary = int(stated.get("vocab_size", 49408))
    projection = "CLIPTextModelWithProjection" in (stated.get("architectures") or ())
    return Config(found, pad=pad, projection=projection, bos_token_id=vocabulary - 2, eos_token_id=vocabulary - 1)


def _transformers(config: Config, begin: str) -> Table:
    # Versions of transformers differ in whether the names of the module begin with "text_model.", too.
    return {"": begin, "text_model": begin, "text_projection": "text_projection"}


def _openclip(config: Config) -> Table:
    width = config.hidden_size
    table: dict[str, TensorPlace | str] = {
        "embeddings.token_embedding": "token_embedding",
        "embeddings.position_embedding.weight": TensorPlace("positional_embedding"),
        "final_layer_norm": "ln_final",
    }
    for layer in range(config.num_hidden_layers):
        module, block = f"encoder.layers.{layer}", f"transformer.resblocks.{layer}"
        table |= {
            f"{module}.layer_norm1": f"{block}.ln_1",
            f"{module}.layer_norm2": f"{block}.ln_2",
            f"{module}.mlp.fc1": f"{block}.mlp.c_fc",
            f"{module}.mlp.fc2": f"{block}.mlp.c_proj",
            f"{module}.self_attn.out_proj": f"{block}.attn.out_proj",
        }
        for third, name in enumerate(("q_proj", "k_proj", "v_proj")):
            rows = (third * width, (third + 1) * width)
            for kind in ("weight", "bias"):
                table[f"{module}.self_attn.{name}.{kind}"] = TensorPlace(f"{block}.attn.in_proj_{kind}", rows)
    table |= {f"text_model.{module}": place for module, place in table.items()}
    return {**table, "text_projection.weight": TensorPlace("text_projection", form="transposed")}


LAYOUTS: Mapping[str, Callable[[Config], Table]] = {
    "transformers": lambda config: _transformers(config, "text_model"),
    "bare": lambda config: _transformers(config, ""),
    "openclip": _openclip,
}
