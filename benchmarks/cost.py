"""The cost that `graphflow validate --cost` states against the memory that a run takes: `python -m benchmarks.cost`.

Random models of six families, some hundred megabytes each, are written into a temporary folder as diffusers folders. An
image of 256 px (`--pixels`; with Wan a video of 13 frames of 160 px) is made with each, in a process of its own. `said`
is the stated peak, `took` how much the resident memory grew at the most (Linux alone shows it); what a first image
imports and allocates once is there before: a small model of the family has run. The gate is 15 %.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

GATE = 0.15
PIXELS, VIDEO_PIXELS, FRAMES = 256, 160, 13
SPIECE = Path(__file__).parents[1] / "tests" / "data" / "wan" / "spiece_umt5_like.model"
"""A small vocabulary of UMT5's kind."""


def text_l(width: int) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    layers = 12 if width > 64 else 2
    return CLIPTextModel(
        CLIPTextConfig(
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=layers,
            num_attention_heads=max(1, width // 64),
            projection_dim=width,
        )
    )


def text_g(width: int) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=12 if width > 64 else 2,
            num_attention_heads=max(1, width // 64),
            projection_dim=width,
            hidden_act="gelu",
        )
    )


def qwen3(width: int) -> Any:
    from transformers import Qwen3Config, Qwen3Model

    return Qwen3Model(
        Qwen3Config(
            vocab_size=151936,
            hidden_size=width,
            intermediate_size=3 * width,
            num_hidden_layers=6 if width > 64 else 2,
            num_attention_heads=max(1, width // 64),
            num_key_value_heads=max(1, width // 128),
            head_dim=64,
        )
    )


def kl_vae(width: int, channels: int, scale: float = 0.18215) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=[width, 2 * width, 4 * width, 4 * width],
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        layers_per_block=2,
        latent_channels=channels,
        scaling_factor=scale,
    )


def unet(width: int, context: int, **more: Any) -> Any:
    from diffusers import UNet2DConditionModel

    stated: dict[str, Any] = {
        "block_out_channels": [width, 2 * width, 4 * width, 4 * width],
        "cross_attention_dim": context,
        "attention_head_dim": 8,
        **more,
    }
    return UNet2DConditionModel(**stated)


def sd1(big: bool) -> dict[str, Any]:
    return {
        "unet": unet(128 if big else 32, 512 if big else 64),
        "text_encoder": text_l(512 if big else 64),
        "vae": kl_vae(96 if big else 32, 4),
    }


def sdxl(big: bool) -> dict[str, Any]:
    width, first, second = (128, 256, 512) if big else (32, 64, 64)
    return {
        "unet": unet(
            width,
            first + second,
            block_out_channels=[width, 2 * width, 4 * width],
            down_block_types=["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
            up_block_types=["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
            transformer_layers_per_block=[1, 2, 6],
            attention_head_dim=[width // 64 or 1, width // 32 or 1, width // 16],
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=second + 6 * 256,
            use_linear_projection=True,
        ),
        "text_encoder": text_l(first),
        "text_encoder_2": text_g(second),
        "vae": kl_vae(96 if big else 32, 4, 0.13025),
    }


def z_image(big: bool) -> dict[str, Any]:
    from diffusers import ZImageTransformer2DModel

    width = 768 if big else 96
    return {
        "transformer": ZImageTransformer2DModel(
            dim=width,
            n_layers=8 if big else 2,
            n_refiner_layers=2 if big else 1,
            n_heads=width // 32,
            n_kv_heads=width // 32,
            cap_feat_dim=512 if big else 64,
            axes_dims=[8, 12, 12],
            axes_lens=[1536, 512, 512],
        ),
        "text_encoder": qwen3(512 if big else 64),
        "vae": kl_vae(96 if big else 32, 16, 0.3611),
    }


def qwen_image(big: bool) -> dict[str, Any]:
    from diffusers import AutoencoderKLQwenImage, QwenImageTransformer2DModel
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    width, heads = (512, 4) if big else (128, 1)
    text = {
        "vocab_size": 151936,
        "hidden_size": width,
        "intermediate_size": 3 * width,
        "num_hidden_layers": 4 if big else 1,
        "num_attention_heads": heads,
        "num_key_value_heads": 1,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
    }
    vision = {
        "depth": 8,
        "hidden_size": 160,
        "intermediate_size": 320,
        "out_hidden_size": width,
        "num_heads": 2,
        "fullatt_block_indexes": [3, 7],
    }
    return {
        "transformer": QwenImageTransformer2DModel(
            num_layers=8 if big else 2,
            attention_head_dim=128,
            num_attention_heads=6 if big else 1,
            joint_attention_dim=width,
        ),
        "text_encoder": Qwen2_5_VLForConditionalGeneration(
            Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True)
        ),
        "vae": AutoencoderKLQwenImage(base_dim=96 if big else 16),
    }


def sd3(big: bool) -> dict[str, Any]:
    from diffusers import SD3Transformer2DModel

    heads, first, second = (12, 256, 512) if big else (2, 64, 64)
    joint = 4096
    l = text_l(first)  # noqa: E741
    from transformers import CLIPTextModelWithProjection

    return {
        "transformer": SD3Transformer2DModel(
            sample_size=128,
            num_layers=8 if big else 2,
            attention_head_dim=64,
            num_attention_heads=heads,
            joint_attention_dim=joint,
            caption_projection_dim=64 * heads,
            pooled_projection_dim=first + second,
            pos_embed_max_size=192,
        ),
        "text_encoder": CLIPTextModelWithProjection(l.config),
        "text_encoder_2": text_g(second),
        "vae": kl_vae(96 if big else 32, 16, 1.5305),
    }


def wan(big: bool) -> dict[str, Any]:
    from diffusers import AutoencoderKLWan, WanTransformer3DModel
    from transformers import UMT5Config, UMT5EncoderModel

    width = 768 if big else 32
    text: dict[str, Any] = {"vocab_size": 816, "d_model": width, "d_kv": 64, "d_ff": 2 * width, "num_layers": 24}
    return {
        "transformer": WanTransformer3DModel(
            num_attention_heads=6 if big else 1,
            attention_head_dim=128,
            text_dim=width,
            ffn_dim=3072 if big else 128,
            num_layers=10 if big else 2,
        ),
        "text_encoder": UMT5EncoderModel(
            UMT5Config(**text, num_heads=max(1, width // 64), feed_forward_proj="gated-gelu")
        ),
        "vae": AutoencoderKLWan(base_dim=64 if big else 16),
    }


FAMILIES: dict[str, tuple[str, Callable[[bool], dict[str, Any]]]] = {
    "sd1": ("StableDiffusionPipeline", sd1),
    "sdxl": ("StableDiffusionXLPipeline", sdxl),
    "sd3": ("StableDiffusion3Pipeline", sd3),
    "z_image": ("ZImagePipeline", z_image),
    "qwen_image": ("QwenImagePipeline", qwen_image),
    "wan": ("WanPipeline", wan),
}


def write(place: Path, family: str, big: bool) -> None:
    """A diffusers folder of random weights."""
    import torch

    pipeline, make = FAMILIES[family]
    torch.manual_seed(1)
    parts = make(big)
    for name, module in parts.items():
        module.half().save_pretrained(place / name)
    index = {"_class_name": pipeline, **{name: ["x", type(module).__name__] for name, module in parts.items()}}
    (place / "model_index.json").write_text(json.dumps(index))
    if family == "wan":
        (place / "tokenizer").mkdir()
        (place / "tokenizer" / "spiece.model").write_bytes(SPIECE.read_bytes())


def measure(models: Path, family: str, output: Path, pixels: int) -> None:
    """Runs the small model, then the large one, and prints the stated and the measured peak, as JSON."""
    import graphflow as gf
    from graphflow.execution.memory import PeakMemory

    settings = gf.Settings(models=(models,), device="cpu", output_dir=output)
    with gf.Engine(settings=settings, cache=gf.Cache(memory=0)) as engine:
        is_video = family == "wan"
        engine.run(workflow("small", is_video, pixels))
        made = workflow("large", is_video, pixels)
        (cost,) = engine.costs(made)
        problems = engine.validate(made)
        assert not problems, problems
        peak = PeakMemory()
        engine.run(made)
        took = peak.bytes()
    stated: Any = cost
    weights = sum(load.bytes for load in stated.loads)
    print(json.dumps({"said": stated.peak, "took": took, "weights": weights, "at": stated.at}))


def workflow(name: str, is_video: bool, pixels: int) -> Any:
    import graphflow as gf

    def one(kind: str, **inputs: Any) -> dict[str, Any]:
        return {"class_type": kind, "inputs": inputs}

    if is_video:
        empty = one("EmptyHunyuanLatentVideo", width=VIDEO_PIXELS, height=VIDEO_PIXELS, length=FRAMES, batch_size=1)
    else:
        empty = one("EmptyLatentImage", width=pixels, height=pixels, batch_size=1)
    return gf.Workflow.from_json(
        {
            "1": one("CheckpointLoaderSimple", ckpt_name=name),
            "2": empty,
            "3": one("CLIPTextEncode", clip=["1", 1], text="a red fox in the snow, morning light"),
            "4": one("CLIPTextEncode", clip=["1", 1], text=""),
            "5": one(
                "KSampler",
                model=["1", 0],
                positive=["3", 0],
                negative=["4", 0],
                latent_image=["2", 0],
                seed=1,
                steps=2,
                cfg=4.0,
                sampler_name="euler",
                scheduler="normal",
            ),
            "6": one("VAEDecode", samples=["5", 0], vae=["1", 2]),
            "7": one("PreviewImage", images=["6", 0]),
        }
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("families", nargs="*", default=list(FAMILIES), metavar="FAMILY")
    parser.add_argument("--pixels", type=int, default=PIXELS, help="a side of the images (not of the video)")
    parser.add_argument("--measure", metavar="FAMILY", help=argparse.SUPPRESS)
    parser.add_argument("--models", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.models, options.measure, options.models / "output", options.pixels)
        return 0
    good = True
    print(f"{'family':12} {'weights':>9} {'said':>9} {'took':>9} {'apart':>7}   at")
    for family in options.families:
        with tempfile.TemporaryDirectory() as made:
            for name in ("small", "large"):
                write(Path(made) / "checkpoints" / name, family, big=name == "large")
            command = [sys.executable, "-m", "benchmarks.cost", "--measure", family, "--models", made]
            command += ["--pixels", str(options.pixels)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        apart = found["said"] / found["took"] - 1
        good &= abs(apart) <= GATE
        weights, said, took = (f"{found[name] / 1e6:7.0f}MB" for name in ("weights", "said", "took"))
        print(f"{family:12} {weights} {said} {took} {apart:+7.0%}   {found['at']}", flush=True)
    print(f"\ngate: {GATE:.0%}: {'held' if good else 'NOT HELD'}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
