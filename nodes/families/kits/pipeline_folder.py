"""A model of Stable Diffusion as a diffusers folder: its configs, its tokenizers, and weights in diffusers' names.

A folder states what a checkpoint cannot: what the model predicts, the unit of its latents, its own vocabulary.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from graphflow import GraphFlowError, Problem

from ...files.write_model import TensorEntry, entries_of, write_safetensors
from ...model.config import Config
from ...model.handles import Clip, Model, Vae
from ...model.levels import Discrete
from ...model.prediction import X0, Epsilon, Flow, Prediction, V
from .clip import VOCABULARY

__all__ = ["FolderPart", "parts_of_folder", "scheduler_of", "write_folder", "write_parts"]

PIPELINES = {
    "sd1": ("StableDiffusionPipeline", {"text.l": "text_encoder"}),
    "sd2": ("StableDiffusionPipeline", {"text.h": "text_encoder"}),
    "sdxl": ("StableDiffusionXLPipeline", {"text.l": "text_encoder", "text.g": "text_encoder_2"}),
}
"""Family -> the class of its pipeline, and the folders of its text encoders."""
_UNSTATED = ("pad", "projection", "bos_token_id", "eos_token_id")
"""The entries of our configs of a text encoder that its config.json does not have, or has in another form."""


@dataclass(frozen=True, slots=True)
class FolderPart:
    """One network in a folder."""

    folder: str
    kind: tuple[str, str]
    """The library and the class, as model_index.json names them."""
    config: Mapping[str, Any]
    entries: Sequence[TensorEntry]

    @property
    def file(self) -> str:
        return "diffusion_pytorch_model.safetensors" if self.kind[0] == "diffusers" else "model.safetensors"


def write_folder(
    target: Path, model: Model, clip: Clip, vae: Vae, metadata: Mapping[str, str], dtype: str | None = None
) -> None:
    """The folder of a model with its text encoders and its VAE, with all patches of weights merged. `dtype`: `F16`,
    `BF16` or `F32` for all weights; None: as they are.

    Raises a Problem where the family is not one of U-Nets, or a scheduler cannot state what the model predicts.
    """
    check_family(model)
    entries = {"denoiser": entries_of(model, "denoiser", "diffusers", "")}
    entries["vae"] = entries_of(vae, "vae", "diffusers", "")
    for part in PIPELINES[model.family.name][1]:
        entries[part] = entries_of(clip, part, "transformers", "")
    if dtype is not None:
        entries = {part: [replace(entry, dtype=dtype) for entry in found] for part, found in entries.items()}
    tokenizers = {part: _tokenizer(clip, part) for part in PIPELINES[model.family.name][1]}
    configs = {**dict(model.config), **{part: clip.config[part] for part in tokenizers}, "vae": vae.config}
    parts = parts_of_folder(model.family.name, Config(configs), entries)
    write_parts(target, model.family.name, parts, tokenizers, scheduler_of(model.prediction), metadata)
    latent = model.config.latent
    if latent.get("preview_bias") is not None:
        found = {"weight": _plain(latent.preview), "bias": list(latent.preview_bias)}
        (target / "vae" / "preview.json").write_text(json.dumps(found) + "\n", encoding="utf-8")


def check_family(model: Model) -> None:
    """Raises a Problem where there is no folder for a family."""
    if model.family.name not in PIPELINES:
        message = f"{model.family.title} cannot be written as a diffusers folder yet"
        hint = "Stable Diffusion 1.x, 2.x and XL can; ModelSave writes other families into one file"
        raise GraphFlowError([Problem("not_saved", message, input="model", hint=hint)])


def parts_of_folder(family: str, config: Config, entries: Mapping[str, Sequence[TensorEntry]]) -> list[FolderPart]:
    """The networks of a folder. `config`: of the whole model, with `vae` and the text encoders; `entries`: part -> its
    tensors in the names of the folder."""
    latent = config.latent
    unit = {"scaling_factor": latent.get("scale", 1.0)}
    if latent.get("shift"):
        unit["shift_factor"] = latent.shift
    unet, vae = ("diffusers", "UNet2DConditionModel"), ("diffusers", "AutoencoderKL")
    found = [
        FolderPart("unet", unet, {**_plain(config.denoiser), "sample_size": _side(config)}, entries["denoiser"]),
        FolderPart("vae", vae, {**_plain(config.vae), **unit}, entries["vae"]),
    ]
    for part, folder in PIPELINES[family][1].items():
        text = config[part]
        kind = "CLIPTextModelWithProjection" if text.get("projection") and family == "sdxl" else "CLIPTextModel"
        stated = {name: value for name, value in _plain(text).items() if name not in _UNSTATED}
        ids = {"bos_token_id": text.bos_token_id, "eos_token_id": text.eos_token_id, "pad_token_id": 1}
        about = {"architectures": [kind], "model_type": "clip_text_model", "torch_dtype": "float32"}
        found.append(FolderPart(folder, ("transformers", kind), {**about, **stated, **ids}, entries[part]))
    return found


def write_parts(
    target: Path,
    family: str,
    parts: Sequence[FolderPart],
    tokenizers: Mapping[str, Path],
    scheduler: Mapping[str, Any],
    metadata: Mapping[str, str],
) -> None:
    """The files of a folder. `tokenizers`: part of a text encoder -> the folder of its tokenizer."""
    pipeline, texts = PIPELINES[family]
    index: dict[str, Any] = {"_class_name": pipeline, "scheduler": ["diffusers", scheduler["_class_name"]]}
    if family != "sdxl":
        index |= {"safety_checker": [None, None], "feature_extractor": [None, None], "requires_safety_checker": False}
    for part in parts:
        index[part.folder] = list(part.kind)
        stated = {"_class_name": part.kind[1], **part.config} if part.kind[0] == "diffusers" else part.config
        _write_json(target / part.folder / "config.json", stated)
        with open(target / part.folder / part.file, "wb") as file:
            write_safetensors(file, part.entries, {"format": "pt", **metadata})
    for part_name, source in tokenizers.items():
        name = texts[part_name].replace("text_encoder", "tokenizer")
        index[name] = ["transformers", "CLIPTokenizer"]
        (target / name).mkdir()
        for path in sorted(source.iterdir()):
            if path.suffix in (".json", ".txt"):
                shutil.copyfile(path, target / name / path.name)
    _write_json(target / "scheduler" / "scheduler_config.json", scheduler)
    _write_json(target / "model_index.json", index)


def scheduler_of(prediction: Prediction) -> dict[str, Any]:
    """The config of a scheduler of diffusers that states what a model predicts.

    Raises a Problem for predictions that no folder states.
    """
    if isinstance(prediction, Flow) and prediction.noise_scale == 1.0:
        kind = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": prediction.shift}
        return {"_class_name": "DPMSolverMultistepScheduler", "num_train_timesteps": 1000, "steps_offset": 1, **kind}
    kinds: dict[type, str] = {Epsilon: "epsilon", V: "v_prediction", X0: "sample"}
    levels = getattr(prediction, "levels", None)
    if type(prediction) not in kinds or levels not in (Discrete(), Discrete(zero_snr=True)):
        message = f"a diffusers folder cannot state that a model predicts {type(prediction).__name__} on its levels"
        raise GraphFlowError([Problem("not_saved", message, input="model")])
    is_zero = levels == Discrete(zero_snr=True)
    return {
        "_class_name": "DDPMScheduler",
        "num_train_timesteps": 1000,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "clip_sample": False,
        "steps_offset": 1,
        "prediction_type": kinds[type(prediction)],
        "rescale_betas_zero_snr": is_zero,
        "timestep_spacing": "trailing" if is_zero else "leading",
    }


def _tokenizer(clip: Clip, part: str) -> Path:
    source = dict(clip.sources).get(f"tokenizer.{part.removeprefix('text.')}")
    return Path(source.path) / source.prefix if source is not None else VOCABULARY


def _side(config: Config) -> int:
    """Cells of a side of the latents that a pipeline makes where no size is stated."""
    stated = config.denoiser.get("sample_size")
    return int(stated) if isinstance(stated, int) else 64


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
