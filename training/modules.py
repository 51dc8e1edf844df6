"""The modules of the built-in model, their checkpoints while in training, and the diffusers folder that ships."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from graphflow_nodes.training.vocabulary import learn_vocabulary
from safetensors.torch import load_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from .data import captions, pairs

__all__ = [
    "RUNS",
    "SHIPPED",
    "export",
    "learn_tokenizer",
    "make_tokenizer",
    "new_text_encoder",
    "new_unet",
    "new_vae",
    "noise_schedule",
    "restore",
    "save",
    "the_tokenizer",
    "write_folder",
]

RUNS = Path(__file__).with_name("runs")
SHIPPED = Path(__file__).parent.parent / "nodes" / "builtin" / "graphflow-tiny"
WIDTH = 96
NEW = "new weights"
PARTS = {"vae": "vae", "unet": "unet", "text": "text_encoder"}


def new_vae(side: int = 64) -> AutoencoderKL:
    """Latents [4, side / 8, side / 8] of an image [3, side, side]."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=4,
        sample_size=side,
        block_out_channels=(12, 24, 64, 96),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    )


def new_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(64, 120),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=8,
        norm_num_groups=8,
    )


def new_text_encoder(
    tokenizer: CLIPTokenizer, width: int = WIDTH, layers: int = 2, feed_forward: int = 2 * WIDTH
) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=feed_forward,
            num_hidden_layers=layers,
            num_attention_heads=4,
            max_position_embeddings=77,
            projection_dim=width,
            hidden_act="quick_gelu",
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.eos_token_id,
        )
    )


def noise_schedule() -> DDPMScheduler:
    """Stable Diffusion 1.x's: 1000 steps, scaled linear."""
    return DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False)


def make_tokenizer(folder: Path) -> CLIPTokenizer:
    """The vocabulary of the captions of 64 pixels."""
    rng = random.Random(0)
    return learn_tokenizer(folder, [rng.choice(captions(sample)) for sample in pairs() for _ in range(8)], size=745)


def learn_tokenizer(folder: Path, text: list[str], size: int) -> CLIPTokenizer:
    """A byte-level BPE in CLIP's own two files, learnt from texts."""
    learn_vocabulary(folder, text, size)
    return CLIPTokenizer.from_pretrained(folder)


def save(module: torch.nn.Module, runs: Path, name: str) -> None:
    """Write a checkpoint, whole or not at all."""
    runs.mkdir(parents=True, exist_ok=True)
    torch.save(module.state_dict(), runs / f"{name}.new")
    (runs / f"{name}.new").rename(runs / f"{name}.pt")


def restore(module: torch.nn.Module, runs: Path, name: str, shipped: Path | None = None) -> str:
    """Load the checkpoint `name`, or else the part of that name of a shipped folder; says where from."""
    path = runs / f"{name}.pt"
    if path.exists():
        module.load_state_dict(torch.load(path, weights_only=True))
        return str(path)
    if shipped is None:
        return NEW
    (weights,) = (shipped / PARTS[name]).glob("*.safetensors")
    module.load_state_dict({key: value.float() for key, value in load_file(weights).items()})
    return str(weights)


def scale_of(runs: Path, shipped: Path | None = None) -> float:
    """The factor that gives latents unit variance."""
    path = runs / "scale.json"
    if path.exists() or shipped is None:
        return float(json.loads(path.read_text()))
    return float(json.loads((shipped / "vae" / "config.json").read_text())["scaling_factor"])


def the_tokenizer(runs: Path, shipped: Path | None = None) -> CLIPTokenizer:
    """The vocabulary of the runs. A text encoder knows one only, so that of a shipped folder where it goes on from
    there."""
    folder = runs / "tokenizer"
    if shipped is not None and not folder.exists():
        shutil.copytree(shipped / "tokenizer", folder)
    return CLIPTokenizer.from_pretrained(folder) if folder.exists() else make_tokenizer(folder)


def export(runs: Path, target: Path, shipped: Path | None, preview_of: Callable[[AutoencoderKL], object]) -> None:
    """Write the diffusers folder in fp16, whole or not at all; a model card that is there stays.

    Parts without a checkpoint are those of the shipped folder. `preview_of` gives what lies in `vae/preview.json`.
    """
    vae, tokenizer = new_vae(), the_tokenizer(runs, shipped)
    unet, text = new_unet(), new_text_encoder(tokenizer)
    for module, name in ((vae, "vae"), (unet, "unet"), (text, "text")):
        if restore(module, runs, name, shipped) == NEW:
            raise SystemExit(f"there is no {runs / name}.pt: train that part first, or add --shipped")
    preview = preview_of(vae)
    vae.register_to_config(scaling_factor=scale_of(runs, shipped))
    write_folder(target, vae, unet, text, runs / "tokenizer", preview)


def write_folder(
    target: Path,
    vae: AutoencoderKL,
    unet: UNet2DConditionModel,
    text: CLIPTextModel,
    tokenizer: Path,
    preview: object,
) -> None:
    """Write the diffusers folder in fp16, whole or not at all; a model card that is there stays."""
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=target.parent))
    vae.half().save_pretrained(folder / "vae")
    unet.half().save_pretrained(folder / "unet")
    text.half().save_pretrained(folder / "text_encoder")
    shutil.copytree(tokenizer, folder / "tokenizer")
    noise_schedule().save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "StableDiffusionPipeline",
        "feature_extractor": [None, None],
        "safety_checker": [None, None],
        "requires_safety_checker": False,
        "scheduler": ["diffusers", "DDPMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    (folder / "vae" / "preview.json").write_text(json.dumps(preview) + "\n")
    card = target / "README.md"
    if card.exists():
        shutil.copy(card, folder / "README.md")
    folder.chmod(0o755)
    shutil.rmtree(target, ignore_errors=True)
    folder.rename(target)
    size = sum(path.stat().st_size for path in target.rglob("*.safetensors"))
    print(f"{target}: {size / 1e6:.2f} MB of weights")
