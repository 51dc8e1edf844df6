"""The text `parameters` of AUTOMATIC1111's web UI (Forge, SD.Next and others write it, too), as a workflow and back.

    a prompt <lora:name:0.8>
    Negative prompt: another
    Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 1, Size: 512x768, Model: name, Clip skip: 2

What is read makes the image that is meant, not the same bits: that program draws its noise on the graphics card and
weighs prompts in another way.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["read_parameters", "write_parameters"]

SAMPLERS = {
    "Euler": "euler",
    "Euler a": "euler_ancestral",
    "Heun": "heun",
    "DPM2": "dpm_2",
    "DPM2 a": "dpm_2_ancestral",
    "LMS": "lms",
    "DPM fast": "dpm_fast",
    "DPM adaptive": "dpm_adaptive",
    "DPM++ 2S a": "dpmpp_2s_ancestral",
    "DPM++ SDE": "dpmpp_sde",
    "DPM++ 2M": "dpmpp_2m",
    "DPM++ 2M SDE": "dpmpp_2m_sde",
    "DPM++ 2M SDE Heun": "dpmpp_2m_sde_heun",
    "DPM++ 3M SDE": "dpmpp_3m_sde",
    "DDIM": "ddim",
    "DDPM": "ddpm",
    "UniPC": "uni_pc",
    "LCM": "lcm",
}
"""Its name of a sampler -> ours."""
SCHEDULES = {
    "Uniform": "normal",
    "Normal": "normal",
    "Karras": "karras",
    "Exponential": "exponential",
    "SGM Uniform": "sgm_uniform",
    "KL Optimal": "kl_optimal",
    "Simple": "simple",
    "DDIM": "ddim_uniform",
    "Beta": "beta",
}
"""Its name of a schedule -> ours; the first of two for one of ours is read only."""
AUTOMATIC = {
    "dpmpp_2m": "karras",
    "dpmpp_sde": "karras",
    "dpmpp_2s_ancestral": "karras",
    "dpm_2": "karras",
    "dpm_2_ancestral": "karras",
    "lms": "normal",
    "dpmpp_2m_sde": "exponential",
    "dpmpp_2m_sde_heun": "exponential",
    "dpmpp_3m_sde": "exponential",
    "ddim": "ddim_uniform",
}
"""The schedule of a sampler where the text says Automatic."""
_LATENT_METHODS = {
    "Latent (nearest)": "nearest-exact",
    "Latent (nearest-exact)": "nearest-exact",
    "Latent (bicubic)": "bicubic",
    "Latent (bicubic antialiased)": "bicubic",
}
_IMAGE_METHODS = {"Lanczos": "lanczos", "Nearest": "nearest-exact", "None": "lanczos"}
_TAG = re.compile(r"<(?:lora|lyco):([^:>]+)(?::([^:>]*))?(?::([^:>]*))?>")
_PIECE = re.compile(r'(?:"(?:\\.|[^"\\])*"|[^,"])+')
_WEAKER = re.compile(r"(?<!\\)\[([^\[\]:|]+)\]")
ENDINGS = (".safetensors", ".ckpt", ".pt", ".pth", ".sft", ".gguf")


def read_parameters(text: str) -> dict[str, Any] | None:
    """The workflow in the API format that a text describes; None where it is not such a text.

    The web UI states a model without folder and ending: `NAME.safetensors` is meant, or the `Model file` that texts of
    ours state where this is another name.
    """
    lines = text.strip().splitlines()
    last = max((at for at, line in enumerate(lines) if re.match(r"\s*Steps: *\d+", line)), default=None)
    if last is None:
        return None
    cut = next((at for at in range(last) if lines[at].startswith("Negative prompt:")), last)
    positive = "\n".join(lines[:cut]).strip()
    negative = "\n".join(lines[cut:last]).removeprefix("Negative prompt:").strip()
    return _Builder(_fields("\n".join(lines[last:]))).build(positive, negative)


def write_parameters(workflow: Mapping[str, Any]) -> str | None:
    """The text for a workflow in the API format: of its first sampler, in the order of the file. None if it has
    none."""
    sampler = next((node for node in workflow.values() if node["class_type"] in ("KSampler", "KSamplerAdvanced")), None)
    if sampler is None:
        return None

    def value(node: Mapping[str, Any], name: str, default: Any = None) -> Any:
        found = _constant(workflow, node["inputs"].get(name))
        return default if found is None else found

    def upstream(name: str) -> list[Mapping[str, Any]]:
        return list(_upstream(workflow, sampler["inputs"].get(name)))

    models = upstream("model")
    tags = [
        f"<lora:{_stem(str(value(node, 'lora_name')))}:{value(node, 'strength_model', 1.0)}>"
        for node in reversed(models)
        if node["class_type"] in ("LoraLoader", "LoraLoaderModelOnly")
    ]
    skips = [
        value(node, "stop_at_clip_layer") for node in upstream("positive") if node["class_type"] == "CLIPSetLastLayer"
    ]
    names = [value(node, name) for node in models for name in ("ckpt_name", "unet_name", "model_path")]
    model = next((name for name in names if isinstance(name, str)), None)
    sizes = [node for node in upstream("latent_image") if {"width", "height"} <= node["inputs"].keys()]
    width, height = (value(sizes[0], name) if sizes else None for name in ("width", "height"))
    sampler_name, scheduler = value(sampler, "sampler_name"), value(sampler, "scheduler")
    denoise = value(sampler, "denoise", 1.0)
    fields = {
        "Steps": value(sampler, "steps"),
        "Sampler": _key_of(SAMPLERS, sampler_name),
        "Schedule type": _key_of(SCHEDULES, scheduler),
        "CFG scale": value(sampler, "cfg"),
        "Seed": value(sampler, "seed", value(sampler, "noise_seed")),
        "Size": f"{width}x{height}" if isinstance(width, int) and isinstance(height, int) else None,
        "Model": None if model is None else _stem(model),
        "Model file": None if model is None or _file(_stem(model)) == model else model,
        "Clip skip": -skips[0] if skips and isinstance(skips[0], int) and skips[0] < -1 else None,
        "Denoising strength": denoise if denoise != 1.0 else None,
        "Version": "GraphFlow",
    }
    positive, negative = (_words(workflow, sampler["inputs"].get(name)) for name in ("positive", "negative"))
    shown = ", ".join(f"{key}: {_quoted(found)}" for key, found in fields.items() if found is not None)
    return "\n".join([" ".join([positive, *tags]), *([f"Negative prompt: {negative}"] if negative else []), shown])


# -- reading
# ------------------------------------------------------------------------------------------------------------


def _fields(text: str) -> dict[str, str]:
    """`Steps: 20, Size: 512x512, TI hashes: "a: 1, b: 2"`, the names in small letters."""
    found: dict[str, str] = {}
    for piece in _PIECE.findall(text.replace("\n", ", ")):
        name, colon, value = piece.partition(":")
        if colon:
            found.setdefault(name.strip().lower(), _plain(value.strip()))
    return found


def _plain(value: str) -> str:
    if value.startswith('"'):
        try:
            return str(json.loads(value))
        except ValueError:
            return value.strip('"')
    return value


class _Builder:
    """A workflow, node by node."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        self._fields = fields
        self._nodes: dict[str, Any] = {}

    def build(self, positive: str, negative: str) -> dict[str, Any]:
        model, clip, vae = self._loaders(positive + negative)
        first: dict[str, Any] = {
            "model": model,
            "positive": self._encode(positive, clip, "Positive Prompt"),
            "negative": self._encode(negative, clip, "Negative Prompt"),
        }
        width, height = self._size("size", (512, 512))
        denoise, hires = self._number("denoising strength", 1.0), self._hires_size(width, height)
        if hires is None and denoise < 1.0:  # made from an image, of which the text says nothing
            pixels = self._add("LoadImage", "The image it was made from", image="input.png")
            start = self._add("VAEEncode", pixels=[pixels, 0], vae=vae)
        else:
            start = self._add("EmptyLatentImage", width=width, height=height, batch_size=1)
        steps = int(self._number("steps", 20))
        name, schedule = self._sampler("sampler", "schedule type")
        common: dict[str, Any] = {
            "seed": int(self._number("seed", 0)),
            "sampler_name": name,
            "scheduler": schedule,
            "cfg": self._number("cfg scale", 7.0),
        }
        latent = self._add(
            "KSampler",
            **first,
            **common,
            steps=steps,
            latent_image=[start, 0],
            denoise=1.0 if hires is not None else denoise,
        )
        if hires is not None:
            latent = self._second_pass(latent, {**first, **common}, vae, hires, steps, denoise)
        image = self._add("VAEDecode", samples=[latent, 0], vae=vae)
        self._add("SaveImage", images=[image, 0], filename_prefix="ComfyUI")
        return self._nodes

    def _add(self, kind: str, title: str | None = None, **inputs: Any) -> str:
        key = str(len(self._nodes) + 1)
        self._nodes[key] = {"class_type": kind, "inputs": inputs} | ({"_meta": {"title": title}} if title else {})
        return key

    def _loaders(self, prompts: str) -> tuple[list[Any], list[Any], list[Any]]:
        """The outputs that give the model, the text encoder and the VAE."""
        named = self._fields.get("model file") or _file(self._fields.get("model", "unknown"))
        loader = self._add("CheckpointLoaderSimple", ckpt_name=named)
        model, clip, vae = [loader, 0], [loader, 1], [loader, 2]
        for found in _TAG.finditer(prompts):
            for_clip = _number(found[2], 1.0)
            lora = self._add(
                "LoraLoader",
                model=model,
                clip=clip,
                lora_name=_file(found[1]),
                strength_model=_number(found[3], for_clip),
                strength_clip=for_clip,
            )
            model, clip = [lora, 0], [lora, 1]
        skip = int(self._number("clip skip", 1))
        if skip > 1:
            clip = [self._add("CLIPSetLastLayer", clip=clip, stop_at_clip_layer=-skip), 0]
        stated = self._fields.get("vae", "Automatic")
        if stated not in ("Automatic", "None"):
            vae = [self._add("VAELoader", vae_name=_file(stated)), 0]
        return model, clip, vae

    def _encode(self, prompt: str, clip: list[Any], title: str) -> list[Any]:
        text = re.sub(r"\s*\bBREAK\b\s*", ", ", _TAG.sub("", prompt)).strip()
        while text != (weaker := _WEAKER.sub(r"(\1:0.909)", text)):  # [a] weighs 1 / 1.1
            text = weaker
        return [self._add("CLIPTextEncode", title, text=text, clip=clip), 0]

    def _sampler(self, name: str, schedule: str) -> tuple[str, str]:
        stated = self._fields.get(name, "Euler a")
        kind = self._fields.get(schedule, "Automatic")
        for ending in SCHEDULES:  # older texts: `DPM++ 2M Karras`
            if stated not in SAMPLERS and stated.endswith(" " + ending):
                stated, kind = stated.removesuffix(" " + ending), ending
        sampler = SAMPLERS.get(stated, stated)
        return sampler, AUTOMATIC.get(sampler, "normal") if kind == "Automatic" else SCHEDULES.get(kind, kind)

    def _hires_size(self, width: int, height: int) -> tuple[int, int] | None:
        """The size after the second pass, if there was one."""
        if "hires resize" in self._fields:
            wide, high = self._size("hires resize", (0, 0))
            return wide or round(width * high / height), high or round(height * wide / width)
        factor = self._number("hires upscale", 0.0)
        return (int(width * factor), int(height * factor)) if factor > 0 else None

    def _second_pass(
        self, latent: str, common: dict[str, Any], vae: list[Any], size: tuple[int, int], steps: int, denoise: float
    ) -> str:
        upscaler = self._fields.get("hires upscaler", "Latent")
        width, height = size
        if upscaler.startswith("Latent"):
            larger = self._add(
                "LatentUpscale",
                samples=[latent, 0],
                width=width,
                height=height,
                crop="disabled",
                upscale_method=_LATENT_METHODS.get(upscaler, "bilinear"),
            )
        else:
            image = self._add("VAEDecode", samples=[latent, 0], vae=vae)
            if upscaler not in _IMAGE_METHODS:
                network = self._add("UpscaleModelLoader", model_name=_file(upscaler, ".pth"))
                image = self._add("ImageUpscaleWithModel", upscale_model=[network, 0], image=[image, 0])
            image = self._add(
                "ImageScale",
                image=[image, 0],
                width=width,
                height=height,
                crop="disabled",
                upscale_method=_IMAGE_METHODS.get(upscaler, "lanczos"),
            )
            larger = self._add("VAEEncode", pixels=[image, 0], vae=vae)
        if "hires sampler" in self._fields:
            common["sampler_name"], common["scheduler"] = self._sampler("hires sampler", "hires schedule type")
        common["cfg"] = self._number("hires cfg scale", common["cfg"])
        again = int(self._number("hires steps", 0)) or steps
        return self._add("KSampler", **common, steps=again, latent_image=[larger, 0], denoise=denoise)

    def _number(self, name: str, default: float) -> float:
        return _number(self._fields.get(name), default)

    def _size(self, name: str, default: tuple[int, int]) -> tuple[int, int]:
        found = re.fullmatch(r"(\d{1,6}) *x *(\d{1,6})", self._fields.get(name, ""))
        return (int(found[1]), int(found[2])) if found else default


def _number(text: str | None, default: float) -> float:
    try:
        return float(text) if text else default
    except ValueError:
        return default


def _file(name: str, ending: str = ".safetensors") -> str:
    return name if name.lower().endswith(ENDINGS) else name + ending


# -- writing
# ------------------------------------------------------------------------------------------------------------


def _upstream(workflow: Mapping[str, Any], link: Any) -> Iterator[Mapping[str, Any]]:
    """The node that a link comes from and all that it stands on, the nearest first."""
    waiting: list[Any] = [link]
    seen: set[str] = set()
    while waiting:
        link = waiting.pop(0)
        key = link[0] if isinstance(link, list) and len(link) == 2 else None
        if isinstance(key, str) and key in workflow and key not in seen:
            seen.add(key)
            yield workflow[key]
            waiting.extend(workflow[key]["inputs"].values())


def _constant(workflow: Mapping[str, Any], value: Any) -> Any:
    """A literal, or the value of the primitive node that it is linked to; None where it is computed."""
    if isinstance(value, list):
        source = next(_upstream(workflow, value), None)
        value = source["inputs"].get("value") if source is not None else None
    return value if isinstance(value, (int, float, str)) else None


def _words(workflow: Mapping[str, Any], link: Any) -> str:
    for node in _upstream(workflow, link):
        text = _constant(workflow, node["inputs"].get("text"))
        if isinstance(text, str):
            return text
    return ""


def _key_of(names: Mapping[str, str], ours: Any) -> Any:
    """Its name for one of ours; the last of two, for those are the newer ones. Ours where it has none."""
    return next((key for key, name in reversed(list(names.items())) if name == ours), ours)


def _stem(name: str) -> str:
    """The name of a file without its folder and its ending."""
    name = name.replace("\\", "/").rsplit("/", 1)[-1]
    return name.rsplit(".", 1)[0] if name.lower().endswith(ENDINGS) else name


def _quoted(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return json.dumps(text) if any(sign in text for sign in ',:"\n') else text
