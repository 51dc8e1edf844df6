"""Networks that steer a model by an image at every conditioning: MODEL_PATCH, from files of models/model_patches."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from graphflow import Choice, GraphFlowError, Help, Image, Mask, Problem, Range, Settings, Wire, node

from ..families.model_patches import FOLDER, check_model_patch
from ..model.handles import Model
from ..model.wires import ModelWire, VaeWire
from .loaders import folders

ModelPatch = Annotated[Any, Wire("MODEL_PATCH")]
_Strength = Annotated[float, Range(-10.0, 10.0, 0.01), Help("a factor of what the network adds; 0 is without it")]
_Share = Annotated[float, Range(0.0, 1.0, 0.001), Help("a share of the sampling: 0 is the beginning, 1 the end")]
_GREY = 0.5
_NO_HINT = "there is neither an image nor an inpaint_image to steer by"


def _names(settings: Settings) -> list[str]:
    return folders(settings).list(FOLDER)


def _digest(settings: Settings, name: str, **_: Any) -> str:
    return settings.digests.of(folders(settings).find(FOLDER, name))


@node("ModelPatchLoader", category="advanced/loaders", version="1", outside=_digest, check=check_model_patch)
def model_patch_loader(settings: Settings, name: Annotated[str, Choice(_names, "models/model_patches")]) -> ModelPatch:
    """Take a network that acts inside a model out of a file; which one it is, is found from its header."""
    from ..families.model_patches import open_model_patch

    return open_model_patch(folders(settings).find(FOLDER, name), settings)


@node("QwenImageDiffsynthControlnet", category="advanced/loaders/qwen", version="1")
def qwen_image_diffsynth_controlnet(
    model: ModelWire,
    model_patch: ModelPatch,
    vae: VaeWire,
    image: Image,
    strength: _Strength = 1.0,
    mask: Mask | None = None,
) -> ModelWire:
    """Let DiffSynth's control steer Qwen-Image by an image of edges or depth, or by an image to inpaint.

    `mask`, which only networks for inpainting see, is 1 where the image is to be drawn anew.
    """
    _check_fits(model, model_patch, "qwen_diffsynth", "DiffSynth's control of Qwen-Image")
    if strength == 0.0:
        return model
    kept = None if mask is None else 1.0 - mask.float().reshape(-1, *mask.shape[-2:])
    if kept is None and model_patch.config.denoiser.columns > 4 * model.latent.channels:
        kept = image.new_ones(1, *image.shape[1:3])
    return _steered(model, model_patch, vae, image[..., :3], strength, kept)


def _check_hint(
    settings: Settings, literals: Mapping[str, Any], types: Mapping[str, str]
) -> Iterator[tuple[str | None, str]]:
    if not types.keys() & {"image", "inpaint_image"}:
        yield "image", _NO_HINT


@node("ZImageFunControlnet", category="advanced/loaders/zimage", version="1", check=_check_hint)
def z_image_fun_controlnet(
    model: ModelWire,
    model_patch: ModelPatch,
    vae: VaeWire,
    strength: _Strength = 1.0,
    image: Image | None = None,
    inpaint_image: Image | None = None,
    mask: Mask | None = None,
) -> ModelWire:
    """Let a Fun ControlNet steer Z-Image by an image of edges, depth or a pose, and by an image to inpaint.

    `mask` is 1 where the image is to be drawn anew. What is not given is grey.
    """
    import torch

    from ..resampling import resize

    _check_fits(model, model_patch, "z_image_fun", "a Fun ControlNet of Z-Image")
    given = image if image is not None else inpaint_image
    if given is None:
        raise _problem("no_hint", _NO_HINT, "image", "link one")
    if strength == 0.0:
        return model
    shape = given.shape[1:3]
    first, second = (torch.full_like(given[..., :3], _GREY) if one is None else one for one in (image, inpaint_image))
    if second.shape[1:3] != shape:
        second = resize(second[..., :3].movedim(-1, 1), shape[1], shape[0], "area", "center").movedim(1, -1)
    kept = None
    if mask is not None:
        whole = mask.float().reshape(-1, 1, *mask.shape[-2:])
        covered = resize(whole, shape[1], shape[0], "bilinear", "center").movedim(1, -1)
        second = torch.where(covered < 0.5, second[..., :3], _GREY)
        kept = 1.0 - covered[..., 0]
    return _steered(model, model_patch, vae, _beside(first[..., :3], second[..., :3]), strength, kept)


@node("AnimaLLLiteApply", category="advanced/loaders/anima", display_name="Apply Anima LLLite", version="1")
def anima_lllite_apply(
    model: ModelWire,
    model_patch: ModelPatch,
    image: Image,
    strength: _Strength = 1.0,
    start_percent: _Share = 0.0,
    end_percent: _Share = 1.0,
    mask: Mask | None = None,
) -> ModelWire:
    """Let a ControlNet-LLLite steer Anima by an image of edges, depth or a pose, or by an image to inpaint.

    `mask`, which only networks for inpainting see, is 1 where the image is to be drawn anew.
    """
    _check_fits(model, model_patch, "anima_lllite", "a ControlNet-LLLite of Anima")
    if strength == 0.0:
        return model
    kept = None if mask is None else 1.0 - mask.float().reshape(-1, *mask.shape[-2:])
    return _steered(model, model_patch, None, image[..., :3], strength, kept, (start_percent, end_percent))


def _beside(one: Any, other: Any) -> Any:
    """[B, H, W, 6] of two batches of images; one image alone stands beside all of the other batch."""
    import torch

    count = max(len(one), len(other))
    return torch.cat([each.expand(count, -1, -1, -1) if len(each) == 1 else each for each in (one, other)], dim=-1)


def _steered(
    model: Model,
    patch: Any,
    vae: Any,
    hint: Any,
    strength: float,
    kept: Any = None,
    window: tuple[float, float] = (0.0, 1.0),
) -> Model:
    from ..model.entry import Control
    from ..samplers.guidance import ControlPatch
    from .ip_adapter import content_of

    control = Control(patch, hint.float(), strength, window, vae=vae, kept=kept, resampling="area")
    encoder = repr(None if vae is None else vae.identity())
    key = (content_of(hint, kept), encoder, repr(strength), repr(window))
    return model.with_patch(ControlPatch(control, key))


def _check_fits(model: Model, patch: Any, family: str, what: str) -> None:
    if patch.family.name != family:
        raise _problem(
            "wrong_patch",
            f"this is {patch.family.title}; the node is for another: it applies {what}",
            "model_patch",
            "choose another file in ModelPatchLoader",
        )
    why = patch.family.misfit(patch.config, model)
    if why:
        raise _problem("wrong_patch", why, "model_patch", "use it with a model that it was made for")


def _problem(code: str, message: str, input: str, hint: str) -> GraphFlowError:
    return GraphFlowError([Problem(code, message, input=input, hint=hint)])
