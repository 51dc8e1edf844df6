"""Which file is this? Found from its header alone, by tables of names and shapes; no weights are read, torch is not
imported.

What is known here is not all that can run: `families.known` asks the families as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..header import Header
from ..quantised import SIDE_TENSORS, layouts_of
from ..tensor_info import TensorInfo
from .adapters import CONTROLS, FOLDERS, UPSCALERS, control_family
from .denoisers import DENOISERS, prefix_of, unet_family
from .encoders import ENCODERS, IMAGE_ENCODERS, VAES, without_language_prefix
from .identity import Identity, PartSeen
from .keys import Keys, Rule, first
from .loras import read_lora
from .notes import worth_reading
from .titles import CLASSES, TITLES, Title

__all__ = ["Identity", "PartSeen", "recognised"]

VAE_PREFIXES = ("first_stage_model.", "vae.")
TEXT_PREFIXES = (
    "cond_stage_model.transformer.",
    "cond_stage_model.model.",
    "conditioner.embedders.0.transformer.",
    "conditioner.embedders.0.model.",
    "conditioner.embedders.1.model.",
)
"""Of the text encoders in a checkpoint; newer ones have `text_encoders.NAME.transformer.`"""
MARKS = ("v_pred", "ztsnr", "edm_mean", "edm_std", "edm_vpred.sigma_max")
"""Tensors that state how a denoiser predicts; they may lie beside its prefix."""
IMAGE_PREFIXES = ("embedder.model.", "conditioner.embedders.0.open_clip.model.", "clip_vision.")


def recognised(header: Header) -> Identity:
    """The identity of a file. Kind `unknown` where no table knows it; raises GraphFlowError where its notes are
    damaged."""
    keys = Keys(header.tensors)
    looks = (_control, _lora, _embedding, _model, _vae, _encoder, _upscaler)
    found = _folder(header) if header.format == "diffusers" else None
    found = found or next((seen for look in looks if (seen := look(keys, header)) is not None), None)
    found = found or Identity("unknown", "", "")
    return replace(
        found,
        container=header.format,
        number_format=_number_format(header),
        parameters=_parameters(header.tensors),
        bytes=header.size,
        notes=worth_reading(header.metadata),
        folder=found.folder or FOLDERS.get(found.kind, ""),
    )


def _title(family: str) -> Title:
    return TITLES.get(family, Title(""))


def _named(row: Rule, keys: Keys) -> str:
    variant = row.variant(keys)
    return f"{row.name} ({variant})" if variant else row.name


def _lora(keys: Keys, header: Header) -> Identity | None:
    lora = read_lora(keys, header.metadata)
    if lora is None:
        return None
    details = {
        "kind": lora.kind,
        "rank": str(lora.rank or ""),
        "trainer": lora.trainer,
        "modules": str(lora.modules),
        "changes": ", ".join(lora.parts),
    }
    title = _title(lora.family).title
    return Identity(
        kind="LoRA",
        family=lora.family,
        title=title,
        details={name: text for name, text in details.items() if text},
        missing=(f"a model of {title or 'the family that it was trained for'}",),
    )


def _control(keys: Keys, header: Header) -> Identity | None:
    for kind, row in CONTROLS:
        if row.matches(keys):
            family = row.name or control_family(keys)
            title = _title(family).title
            return Identity(kind, family, title, row.variant(keys), missing=(f"a model of {title}",) if title else ())
    return None


_WIDTHS = {768: "sd1", 1024: "sd2", 1280: "sdxl", 2048: "sdxl", 4096: "flux"}


def _embedding(keys: Keys, header: Header) -> Identity | None:
    """Textual inversion: a few vectors, each as wide as the words of an encoder."""
    if keys.has("conditioning"):
        return Identity("conditioning", "", "")
    if not 0 < len(keys.tensors) <= 8:
        return None
    names = [name for name in keys.tensors if name.removeprefix("string_to_param.").count(".") == 0]
    widths = [keys.shape(name)[-1] for name in names if 1 <= len(keys.shape(name)) <= 2]
    if len(names) < len(keys.tensors) or len(widths) < len(names) or not all(width in _WIDTHS for width in widths):
        return None
    family = "sdxl" if {"clip_l", "clip_g"} & set(names) else _WIDTHS[widths[0]]
    vectors = max((keys.shape(name)[0] if len(keys.shape(name)) == 2 else 1) for name in names)
    title = _title(family).title
    return Identity("embedding", family, title, details={"vectors": str(vectors)}, missing=(f"a model of {title}",))


def _model(keys: Keys, header: Header) -> Identity | None:
    prefix = prefix_of(keys)
    beside = {name: keys.tensors[name] for name in MARKS if name in keys.tensors}
    inside = Keys({**keys.under(prefix).tensors, **beside})
    row = first(DENOISERS, inside)
    if row is None:
        return None
    variant = row.variant(inside)
    parts = [_part("denoiser", _title(row.name).title, prefix, keys), *_other_parts(keys, prefix)]
    return _with_needs(row.name, variant, parts)


def _other_parts(keys: Keys, prefix: str) -> list[PartSeen]:
    """VAE, text encoders and image encoder beside a denoiser."""
    if not prefix:
        return []
    found = []
    for place in VAE_PREFIXES:
        inside = keys.under(place)
        if inside.tensors:
            row = first(VAES, inside)
            found.append(_part("vae", _named(row, inside) if row else "of an unknown kind", place, keys))
    others = {name.split(".", 2)[1] for name in keys.tensors if name.startswith("text_encoders.")}
    for place in (*TEXT_PREFIXES, *(f"text_encoders.{name}.transformer." for name in sorted(others))):
        inside = keys.under(place)
        if inside.tensors:
            row = first(ENCODERS, without_language_prefix(inside))
            found.append(_part("text encoder", _named(row, inside) if row else "of an unknown kind", place, keys))
    for place in IMAGE_PREFIXES:
        inside = keys.under(place)
        row = first(IMAGE_ENCODERS, inside) if inside.tensors else None
        if row is not None:
            found.append(_part("image encoder", _named(row, inside), place, keys))
    return found


def _with_needs(family: str, variant: str, parts: list[PartSeen], kind: str = "") -> Identity:
    about = _title(family)
    text, vae = _needs(family, variant, about)
    names = {part.name for part in parts}
    missing = []
    if text and "text encoder" not in names:
        missing.append(f"text encoder{'s' if len(text) > 1 else ''}: {' and '.join(text)}")
    if vae and "vae" not in names:
        missing.append(f"VAE: {vae}")
    kind = kind or ("checkpoint" if names & {"vae", "text encoder"} else "diffusion model")
    return Identity(kind, family, about.title, variant, tuple(parts), missing=tuple(missing))


def _needs(family: str, variant: str, about: Title) -> tuple[tuple[str, ...], str]:
    """Where members of a family need other encoders than the family's usual ones."""
    if family == "flux2" and variant.startswith("klein"):
        return ({"klein 4B": "Qwen3 4B", "klein 9B": "Qwen3 8B"}[variant],), about.vae
    if family == "wan" and "2.2 5B" in variant:
        return about.text, "the Wan 2.2 VAE"
    if family == "chroma" and variant:
        return about.text, ""
    return about.text, about.vae


def _vae(keys: Keys, header: Header) -> Identity | None:
    prefix = next((place for place in VAE_PREFIXES if keys.starts(place)), "")
    inside = keys.under(prefix)
    row = first(VAES, inside)
    if row is None:
        return None
    kind = "VAE approximation" if row.name in ("TAESD", "video TAE") else "VAE"
    return Identity(kind, row.name, row.name, row.variant(inside), (_part("vae", row.name, prefix, keys),))


def _encoder(keys: Keys, header: Header) -> Identity | None:
    inside = without_language_prefix(keys)
    text, image = first(ENCODERS, inside), first(IMAGE_ENCODERS, keys)
    if text is not None and not (image is not None and text.name.startswith("CLIP")):
        variant = text.variant(inside)
        return Identity("text encoder", text.name, text.name, variant, (_part("text encoder", text.name, "", keys),))
    if image is None:
        return None
    variant = ", ".join(word for word in (image.variant(keys), "with its text encoder" if text else "") if word)
    return Identity("image encoder", image.name, image.name, variant, (_part("image encoder", image.name, "", keys),))


def _upscaler(keys: Keys, header: Header) -> Identity | None:
    inside = keys.under("module.") if keys.starts("module.") else keys
    row = first(UPSCALERS, inside)
    return Identity("upscale model", row.name, row.name, row.variant(inside)) if row is not None else None


def _folder(header: Header) -> Identity | None:
    """A diffusers folder states the class of each part in its config."""
    configs = header.configs
    alone = "model_index" not in configs
    found = [_class(part, config, header) for part, config in configs.items() if part != "model_index"]
    parts = [part for part, _, _ in filter(None, found)]
    family, variant = next(((family, variant) for _, family, variant in filter(None, found) if family), ("", ""))
    if not parts:
        return None
    parts.sort(key=lambda part: (_ORDER.index(part.name) if part.name in _ORDER else len(_ORDER), part.prefix))
    if not family and not alone:
        named = str(configs["model_index"].get("_class_name", ""))
        family = next((family for word, family in _PIPELINES.items() if named.startswith(word)), "")
    if any(part.name == "denoiser" for part in parts):
        return _with_needs(family, variant, parts, "diffusion model" if alone else "pipeline")
    (part, *_) = parts
    if not alone:
        return Identity("pipeline", "", str(configs["model_index"].get("_class_name", "")), "", tuple(parts))
    kind = {"vae": "VAE", "image encoder": "image encoder", "controlnet": "ControlNet"}.get(part.name, "text encoder")
    return Identity(kind, family or part.title, _title(family).title or part.title, variant, (part,))


_ORDER = ("denoiser", "vae", "text encoder", "image encoder")
_PIPELINES = {"StableDiffusionXL": "sdxl", "StableDiffusion3": "sd3", "StableDiffusion": "sd1"}
"""First words of a pipeline's class -> family, where the numbers of its denoiser do not show it."""


def _class(part: str, config: Mapping[str, Any], header: Header) -> tuple[PartSeen, str, str] | None:
    """A part of a folder, with the family and variant that it shows, if any. None for what has no weights."""
    named = config.get("_class_name") or next(iter(_texts(config.get("architectures"))), "")
    if not isinstance(named, str) or not named or "Scheduler" in named:
        return None
    prefix = f"{part}/" if part else ""
    keys = Keys(header.tensors)
    seen = _part("text encoder", named, prefix, keys)
    if named in CLASSES:
        return replace(seen, name="denoiser"), CLASSES[named], ""
    if named == "UNet2DConditionModel":
        widths = _integers(config.get("block_out_channels"))
        context = next(iter(_integers(config.get("cross_attention_dim"))), 0)
        label = next(iter(_integers(config.get("projection_class_embeddings_input_dim"))), 0)
        family = unet_family(context, widths[0] if widths else 0, label)
        takes = {9: "inpainting", 8: "instruct-pix2pix"}.get(next(iter(_integers(config.get("in_channels"))), 0), "")
        return replace(seen, name="denoiser"), family, takes
    if "Autoencoder" in named or named == "VQModel":
        return replace(seen, name="vae"), "", ""
    if "ControlNet" in named or named == "T2IAdapter":
        return replace(seen, name="controlnet"), control_family(keys.under(prefix)), ""
    if "Vision" in named or named in ("Dinov2Model", "SiglipModel"):
        return replace(seen, name="image encoder"), "", ""
    return (replace(seen, name="safety checker") if "Safety" in named else seen), "", ""


def _texts(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _integers(value: object) -> list[int]:
    items = value if isinstance(value, list) else [value]
    return [item for item in items if type(item) is int]


def _part(name: str, title: str, prefix: str, keys: Keys) -> PartSeen:
    inside = {key: info for key, info in keys.tensors.items() if key.startswith(prefix)}
    return PartSeen(name, title, prefix, _parameters(inside))


def _parameters(tensors: Mapping[str, TensorInfo]) -> int:
    """Numbers of the model: scales and notes of number formats are not counted, two 4-bit numbers in a byte are."""
    keys = Keys(tensors)
    total = 0
    for name, info in tensors.items():
        if not name.endswith(SIDE_TENSORS):
            shape = keys.shape(name)
            total += info.elements * (shape[-1] // info.shape[-1] if shape and info.shape[-1] else 1)
    return total


_FORMATS = {
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F64": "float64",
    "F8_E4M3": "fp8_e4m3fn",
    "F8_E5M2": "fp8_e5m2",
    "I8": "int8",
    "U8": "uint8",
    "I64": "int64",
    "I32": "int32",
}


def _number_format(header: Header) -> str:
    """That of most bytes; quantised layers by the name of their layout, with their number."""
    layouts = Counter(f"{layout.format}{' rotated' * bool(layout.rotated)}" for layout in layouts_of(header).values())
    inside: Counter[str] = Counter()
    for name, info in header.tensors.items():
        if not name.endswith(SIDE_TENSORS) and info.dtype not in ("I64", "I32", "BOOL"):
            inside[_FORMATS.get(info.dtype, info.dtype)] += info.nbytes
    shown = [name for name, count in inside.most_common(3) if 20 * count > sum(inside.values())]
    if layouts:
        quantised = ", ".join(f"{name} ({count} layers)" for name, count in layouts.most_common())
        rest = [name for name in shown if name not in ("fp8_e4m3fn", "fp8_e5m2", "int8", "uint8")]
        return f"{quantised}{f', the rest {rest[0]}' if rest else ''}"
    if header.format == "gguf":
        return "GGUF " + ", ".join(shown)
    return " and ".join(shown)
