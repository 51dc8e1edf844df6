"""Loaders give handles: what to load, not the weights. The weights are loaded when the first node needs them."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, NamedTuple

from graphflow import Blocked, Choice, GraphFlowError, Problem, Settings, Wire, node

from ..families.check_files import file_check
from ..files.folders import ModelFolders
from ..model.handles import Model
from ..model.wires import ClipWire, ModelWire, VaeWire

ClipVisionHandle = Annotated[Any, Wire("CLIP_VISION")]

ONE_ENCODER = (
    "stable_diffusion",
    "stable_cascade",
    "sd3",
    "stable_audio",
    "mochi",
    "ltxv",
    "pixart",
    "cosmos",
    "lumina2",
    "wan",
    "hidream",
    "chroma",
    "ace",
    "omnigen2",
    "qwen_image",
    "hunyuan_image",
    "flux2",
    "ovis",
    "longcat_image",
    "cogvideox",
    "lens",
    "pixeldit",
    "ideogram4",
    "boogu",
    "krea2",
    "joyimage",
    "mage",
    "minimax",
    "yue2",
    "flux3",
    "moss_image",
    "fibo2",
)
TWO_ENCODERS = (
    "sdxl",
    "sd3",
    "flux",
    "hunyuan_video",
    "hidream",
    "hunyuan_image",
    "hunyuan_video_15",
    "kandinsky5",
    "kandinsky5_image",
    "ltxv",
    "newbie",
    "ace",
)
Device = Annotated[str, Choice(("default", "cpu"))]


def folders(settings: Settings) -> ModelFolders:
    return ModelFolders(list(settings.models), settings.pickles)


def checkpoints(settings: Settings) -> list[str]:
    return folders(settings).list("checkpoints")


def _listed(kind: str) -> Callable[[Settings], list[str]]:
    return lambda settings: folders(settings).list(kind)


def _digest(settings: Settings, kind: str, name: str) -> str:
    return settings.digests.of(folders(settings).find(kind, name))


def checkpoint_digest(settings: Settings, ckpt_name: str) -> str:
    return with_vocabulary(settings, "checkpoints", ckpt_name)


def _pipeline_digest(settings: Settings, model_path: str) -> str:
    return with_vocabulary(settings, "diffusers", model_path)


def _vae_digest(settings: Settings, vae_name: str) -> str:
    return _digest(settings, "vae", vae_name)


def _unet_digest(settings: Settings, unet_name: str, **_: Any) -> str:
    return _digest(settings, "diffusion_models", unet_name)


def _encoders_digest(settings: Settings, type: str = "", device: str = "", **names: str) -> str:
    return with_vocabulary(settings, "text_encoders", *names.values())


def with_vocabulary(settings: Settings, kind: str, *names: str) -> str:
    """The digests of files, and of the vocabularies that their text encoders need: those may come after the files."""
    from ..families.kits import vocabularies
    from ..files.header import read_header

    digests = [_digest(settings, kind, name) for name in names]
    for vocabulary in vocabularies.VOCABULARIES:
        folder = vocabularies.folder_of(vocabulary, settings.models)
        headers = (read_header(folders(settings).find(kind, name)) for name in names)
        if folder is not None and any(vocabularies.is_needed(vocabulary, header) for header in headers):
            digests.append(settings.digests.of(folder))
    return " ".join(digests)


_Checkpoint = Annotated[str, Choice(checkpoints, "models/checkpoints")]
Encoder = Annotated[str, Choice(_listed("text_encoders"), "models/text_encoders")]


class CheckpointParts(NamedTuple):
    MODEL: ModelWire
    CLIP: ClipWire
    VAE: VaeWire


class UnclipCheckpoint(NamedTuple):
    MODEL: ModelWire
    CLIP: ClipWire
    VAE: VaeWire
    CLIP_VISION: ClipVisionHandle


@node(
    "CheckpointLoaderSimple",
    category="loaders",
    display_name="Load Checkpoint",
    version="2",
    outside=checkpoint_digest,
    check=file_check("checkpoints", "checkpoint", "ckpt_name"),
)
def checkpoint_loader_simple(settings: Settings, ckpt_name: _Checkpoint) -> CheckpointParts:
    """Take the denoiser, the text encoders and the VAE out of one checkpoint.

    A checkpoint is a single file (.safetensors, .ckpt, .pt) or a diffusers folder; its family is found from its header.
    Where it lacks one of the three, the nodes that would need it fail and name the loader to use. A folder that holds
    several denoisers (Wan 2.2 A14B) gives text encoders and VAE; each denoiser has a name of its own, FOLDER/PART.
    """
    return CheckpointParts(*_parts(settings, ckpt_name))


@node(
    "unCLIPCheckpointLoader",
    category="loaders",
    display_name="unCLIPCheckpointLoader",
    version="1",
    outside=checkpoint_digest,
    check=file_check("checkpoints", "checkpoint", "ckpt_name"),
)
def unclip_checkpoint_loader(settings: Settings, ckpt_name: _Checkpoint) -> UnclipCheckpoint:
    """As CheckpointLoaderSimple, for models that are asked with an image, too, with their image encoder."""
    from ..families.vision import open_vision

    try:
        vision: Any = open_vision(folders(settings).find("checkpoints", ckpt_name), settings)
    except GraphFlowError:
        vision = Blocked(f"{ckpt_name} has no image encoder: load one with CLIPVisionLoader")
    return UnclipCheckpoint(*_parts(settings, ckpt_name), vision)


@node(
    "DiffusersLoader",
    category="advanced/loaders/deprecated",
    version="1",
    outside=_pipeline_digest,
    check=file_check("diffusers", "checkpoint", "model_path"),
)
def diffusers_loader(
    settings: Settings, model_path: Annotated[str, Choice(_listed("diffusers"), "models/diffusers")]
) -> CheckpointParts:
    """Take the denoiser, the text encoders and the VAE out of a diffusers folder (with model_index.json) below
    models/diffusers, of any family that runs.

    CheckpointLoaderSimple lists these folders, too, and gives the same.
    """
    return CheckpointParts(*_parts(settings, model_path, "diffusers"))


def _parts(settings: Settings, ckpt_name: str, kind: str = "checkpoints") -> tuple[Any, Any, Any]:
    """The handles; in the place of a part that the file lacks what stops the nodes that need it."""
    from ..families.opened import open_beside, open_model, unnamed_denoiser
    from ..files.header import read_header

    path = folders(settings).find(kind, ckpt_name)
    several = unnamed_denoiser(read_header(path), ckpt_name)
    model: Any
    if several is None:
        opened = open_model(path, settings)
        model, clip, vae = opened.model, opened.clip, opened.vae
    else:
        model, (clip, vae) = Blocked(f"{several.message}; {several.hint}"), open_beside(path, settings)
    return (
        model,
        clip or Blocked(f"{ckpt_name} has no text encoder: load one with {_text_loader(model)}"),
        vae or Blocked(f"{ckpt_name} has no VAE: load one with VAELoader"),
    )


def _text_loader(model: Any) -> str:
    return (model.family.text_loader if isinstance(model, Model) else "") or "CLIPLoader"


@node(
    "VAELoader",
    category="loaders",
    display_name="Load VAE",
    version="2",
    outside=_vae_digest,
    check=file_check("vae", "VAE", "vae_name"),
)
def vae_loader(settings: Settings, vae_name: Annotated[str, Choice(_listed("vae"), "models/vae")]) -> VaeWire:
    """Take a VAE out of a file or a diffusers folder of its own."""
    from ..families.opened import open_vae

    return open_vae(folders(settings).find("vae", vae_name), settings)


@node(
    "UNETLoader",
    category="advanced/loaders",
    display_name="Load Diffusion Model",
    version="1",
    outside=_unet_digest,
    check=file_check("diffusion_models", "diffusion model", "unet_name"),
)
def unet_loader(
    settings: Settings,
    unet_name: Annotated[str, Choice(_listed("diffusion_models"), "models/diffusion_models")],
    weight_dtype: Annotated[str, Choice(("default", "fp8_e4m3fn", "fp8_e4m3fn_fast", "fp8_e5m2"))] = "default",
) -> ModelWire:
    """Take a denoiser out of a file or a diffusers folder of its own; its family is found from its header.

    Weights are held as the file stores them where they are quantised, else in the number format of the device. With an
    fp8 `weight_dtype` the others are held in 8 bits, too: half the memory of bfloat16, and less exact. Products are
    computed in the format of the device, also with `fp8_e4m3fn_fast`.
    """
    from ..families.opened import open_model

    model = open_model(folders(settings).find("diffusion_models", unet_name), settings).model
    return model if weight_dtype == "default" else replace(model, dtype=weight_dtype.removesuffix("_fast"))


@node(
    "CLIPLoader",
    category="advanced/loaders",
    display_name="Load CLIP",
    version="1",
    outside=_encoders_digest,
    check=file_check("text_encoders", "text encoder", "clip_name"),
)
def clip_loader(
    settings: Settings,
    clip_name: Encoder,
    type: Annotated[str, Choice(ONE_ENCODER)] = "stable_diffusion",
    device: Device = "default",
) -> ClipWire:
    """Take a text encoder out of a file of its own. The file shows which it is: CLIP-L (SD 1.x), H (SD 2.x), G, Qwen3
    (Z-Image), Gemma 2 (Lumina 2), Qwen2.5-VL (Qwen-Image), T5.

    `type` chooses between families that share an encoder. `device` is accepted: parts of models take turns in memory
    anyway.
    """
    from ..families.opened import open_text_encoders

    return open_text_encoders([folders(settings).find("text_encoders", clip_name)], settings, type)


@node(
    "DualCLIPLoader",
    category="advanced/loaders",
    display_name="DualCLIPLoader",
    version="1",
    outside=_encoders_digest,
    check=file_check("text_encoders", "text encoder", "clip_name1", "clip_name2"),
)
def dual_clip_loader(
    settings: Settings,
    clip_name1: Encoder,
    clip_name2: Encoder,
    type: Annotated[str, Choice(TWO_ENCODERS)] = "sdxl",
    device: Device = "default",
) -> ClipWire:
    """Take two text encoders out of files of their own, in either order.

    sdxl: CLIP-L and CLIP-G; flux: CLIP-L and T5; sd3: any two of CLIP-L, CLIP-G and T5.
    """
    from ..families.opened import TYPES, open_text_encoders

    if type not in {"sdxl", *TYPES}:
        known = ", ".join(("sdxl", *sorted(TYPES)))
        raise GraphFlowError(
            [
                Problem(
                    "unknown_model",
                    f"prompts of {type} cannot be encoded yet",
                    input="type",
                    hint=f"these types run so far: {known}",
                )
            ]
        )
    find = partial(folders(settings).find, "text_encoders")
    return open_text_encoders([find(clip_name1), find(clip_name2)], settings, type)


@node(
    "TripleCLIPLoader",
    category="advanced/loaders",
    display_name="TripleCLIPLoader",
    version="1",
    outside=_encoders_digest,
    check=file_check("text_encoders", "text encoder", "clip_name1", "clip_name2", "clip_name3"),
)
def triple_clip_loader(settings: Settings, clip_name1: Encoder, clip_name2: Encoder, clip_name3: Encoder) -> ClipWire:
    """Take the three text encoders of Stable Diffusion 3 out of files of their own, in any order: CLIP-L, CLIP-G and
    T5."""
    from ..families.opened import open_text_encoders

    find = partial(folders(settings).find, "text_encoders")
    return open_text_encoders([find(name) for name in (clip_name1, clip_name2, clip_name3)], settings, "sd3")


@node(
    "QuadrupleCLIPLoader",
    category="advanced/loaders",
    display_name="QuadrupleCLIPLoader",
    version="1",
    outside=_encoders_digest,
    check=file_check("text_encoders", "text encoder", "clip_name1", "clip_name2", "clip_name3", "clip_name4"),
)
def quadruple_clip_loader(
    settings: Settings, clip_name1: Encoder, clip_name2: Encoder, clip_name3: Encoder, clip_name4: Encoder
) -> ClipWire:
    """Take the four text encoders of HiDream out of files of their own, in any order: CLIP-L, CLIP-G, T5 and Llama
    3.1."""
    from ..families.opened import open_text_encoders

    find = partial(folders(settings).find, "text_encoders")
    names = (clip_name1, clip_name2, clip_name3, clip_name4)
    return open_text_encoders([find(name) for name in names], settings, "hidream")
