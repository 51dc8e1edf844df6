"""Nodes that write models: what is saved loads again, here and elsewhere, with the same weights."""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, BinaryIO

from graphflow import Choice, Context, Range, Ui, node

from ..devices.environment import output_files
from ..files.prefixes import check_prefix
from ..files.user_files import files_written, save_numbered
from ..model.wires import ClipWire, ModelWire, VaeWire
from .loaders import ClipVisionHandle

ENDING = ".safetensors"


@node(
    "CheckpointSave",
    category="advanced/model_merging",
    display_name="Save Checkpoint",
    version="1",
    output=True,
    effect=files_written,
    environment=output_files,
    check=check_prefix,
)
def checkpoint_save(
    model: ModelWire, clip: ClipWire, vae: VaeWire, context: Context, filename_prefix: str = "checkpoints/ComfyUI"
) -> Ui[None]:
    """Write a model, its text encoders and its VAE into one file, with all that was merged into them.

    Weights that nothing has changed keep their number format, changed ones are float32. Refused where the file would be
    read as another model than this one.
    """
    return _written(context, filename_prefix, (model, clip, vae), model)


@node(
    "ImageOnlyCheckpointSave",
    category="advanced/model_merging",
    version="1",
    output=True,
    effect=files_written,
    environment=output_files,
    check=check_prefix,
)
def image_only_checkpoint_save(
    model: ModelWire,
    clip_vision: ClipVisionHandle,
    vae: VaeWire,
    context: Context,
    filename_prefix: str = "checkpoints/ComfyUI",
) -> Ui[None]:
    """Write a model, its image encoder and its VAE into one file, for ImageOnlyCheckpointLoader; as CheckpointSave."""
    return _written(context, filename_prefix, (model, clip_vision, vae), model)


@node(
    "ModelSave",
    category="advanced/model_merging",
    display_name="Save Model",
    version="1",
    output=True,
    effect=files_written,
    environment=output_files,
    check=check_prefix,
)
def model_save(model: ModelWire, context: Context, filename_prefix: str = "diffusion_models/ComfyUI") -> Ui[None]:
    """Write a denoiser by itself, for UNETLoader."""
    return _written(context, filename_prefix, (model,), model)


@node(
    "CLIPSave",
    category="advanced/model_merging",
    display_name="Save CLIP",
    version="1",
    output=True,
    effect=files_written,
    environment=output_files,
    check=check_prefix,
)
def clip_save(clip: ClipWire, context: Context, filename_prefix: str = "clip/ComfyUI") -> Ui[None]:
    """Write each text encoder into a file of its own (`..._clip_l`), for CLIPLoader."""
    from ..files.write_model import entries_of

    shown: list[dict[str, str]] = []
    for part in _texts(clip):
        entries = entries_of(clip, part, "transformers", "")
        name = f"{filename_prefix}_clip_{part.removeprefix('text.')}"
        shown += _file(context, name, partial(_write, entries, context.metadata()))
    return Ui({"models": shown})


@node(
    "VAESave",
    category="advanced/model_merging",
    display_name="Save VAE",
    version="1",
    output=True,
    effect=files_written,
    environment=output_files,
    check=check_prefix,
)
def vae_save(vae: VaeWire, context: Context, filename_prefix: str = "vae/ComfyUI_vae") -> Ui[None]:
    """Write a VAE by itself, for VAELoader."""
    from ..files.write_model import entries_of

    entries = entries_of(vae, "vae", prefix="")
    return Ui({"models": _file(context, filename_prefix, partial(_write, entries, context.metadata()))})


@node(
    "LoraSave",
    category="advanced/model_merging",
    display_name="Extract and Save LoRA",
    version="1",
    output=True,
    effect=files_written,
    environment=output_files,
    check=check_prefix,
)
def lora_save(
    context: Context,
    filename_prefix: str = "loras/ComfyUI_extracted_lora",
    rank: Annotated[int, Range(1, 4096, 1)] = 8,
    lora_type: Annotated[str, Choice(("standard", "full_diff"))] = "standard",
    bias_diff: bool = True,
    model_diff: ModelWire | None = None,
    text_encoder_diff: ClipWire | None = None,
) -> Ui[None]:
    """Write the difference of two models (ModelMergeSubtract, CLIPMergeSubtract) as a LoRA of a rank.

    `full_diff` keeps the whole difference of each weight. `bias_diff`: differences of biases and norms are kept, too.
    """
    from ..patches.lora_extract import extracted

    tensors: dict[str, Any] = {}
    for handle in (model_diff, text_encoder_diff):
        if handle is not None:
            tensors |= extracted(handle, rank if lora_type == "standard" else None, bias_diff, context.check_cancelled)
    _check_some(tensors)

    def write(file: BinaryIO) -> None:
        from safetensors.torch import save

        file.write(save(tensors, context.metadata()))

    return Ui({"models": _file(context, filename_prefix, write)})


def _check_some(tensors: Any) -> None:
    from graphflow import GraphFlowError, Problem

    if not tensors:
        raise GraphFlowError(
            [
                Problem(
                    "nothing_to_save",
                    "there is no difference to save",
                    input="model_diff",
                    hint="link model_diff to a ModelMergeSubtract, or text_encoder_diff to a CLIPMergeSubtract",
                )
            ]
        )


def _texts(clip: Any) -> list[str]:
    return [part for part, _ in clip.sources if part.startswith("text.")]


def _written(context: Context, prefix: str, handles: tuple[Any, ...], model: Any) -> Ui[None]:
    from ..families.saved import check_reads_as, marks_of
    from ..files.write_model import entries_of

    entries = marks_of(model)
    for handle in handles:
        for part, _ in handle.sources:
            if not part.startswith("tokenizer."):
                entries += entries_of(handle, part)

    def write(file: BinaryIO) -> None:
        _write(entries, context.metadata(), file)
        file.flush()
        check_reads_as(model, file.name)

    return Ui({"models": _file(context, prefix, write)})


def _write(entries: Any, metadata: dict[str, str], file: BinaryIO) -> None:
    from ..files.write_model import write_safetensors

    write_safetensors(file, entries, metadata)


def _file(context: Context, prefix: str, write: Callable[[BinaryIO], None]) -> list[dict[str, str]]:
    return save_numbered([write], context, context.settings.output_dir, prefix, ENDING, "output")
