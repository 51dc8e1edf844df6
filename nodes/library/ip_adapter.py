"""IP-Adapters: images as prompts for Stable Diffusion 1.x and XL. Names are those of ComfyUI_IPAdapter_plus."""

from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

from graphflow import Choice, GraphFlowError, Handle, Help, Image, Mask, Problem, Range, Settings, Wire, node

from ..devices.environment import numerics
from ..families.check_files import file_check
from ..model.handles import ClipVision, Model
from ..model.wires import ModelWire
from .loaders import ClipVisionHandle, folders
from .vision import encode_images

IPAdapterWire = Annotated[Any, Wire("IPADAPTER")]
PRESETS = {
    "LIGHT - SD1.5 only (low strength)": ("sd15_light",),
    "STANDARD (medium strength)": ("ip-adapter_sd15", "ip-adapter_sdxl_vit-h"),
    "VIT-G (medium strength)": ("sd15_vit-g", "ip-adapter_sdxl."),
    "PLUS (high strength)": ("ip-adapter-plus_sd15", "ip-adapter-plus_sdxl"),
    "PLUS FACE (portraits)": ("plus-face_sd15", "plus-face_sdxl"),
    "FULL FACE - SD1.5 only (portraits stronger)": ("full-face_sd15",),
}
"""Words in the name of the file, for SD 1.x and for SDXL."""
_TYPES = (
    "linear",
    "ease in",
    "ease out",
    "ease in-out",
    "reverse in-out",
    "weak input",
    "weak output",
    "weak middle",
    "strong middle",
    "style transfer",
    "composition",
    "strong style transfer",
    "style and composition",
    "style transfer precise",
    "composition precise",
)
_SIMPLE = {"standard": "linear", "prompt is more important": "ease out", "style transfer": "style transfer"}
_COMBINATIONS = ("concat", "add", "subtract", "average", "norm average")
_SCALINGS = ("V only", "K+V", "K+V w/ C penalty", "K+mean(V) w/ C penalty")
_SIDE = 224
_Time = Annotated[float, Range(0.0, 1.0, 0.001), Help("a share of the sampling: 0 is the beginning, 1 the end")]


@dataclass(frozen=True)
class IPAdapterSet(Handle):
    """An IP-Adapter, and the image encoder that it was made for where it is known."""

    file: Any
    """A `files.ip_adapter.IPAdapterFile`."""
    vision: ClipVision | None = None

    def identity(self) -> Any:
        return [self.file.identity(), self.vision.identity() if self.vision is not None else None]


class ModelAndAdapter(NamedTuple):
    model: ModelWire
    ipadapter: IPAdapterWire


class Adapted(NamedTuple):
    MODEL: ModelWire


def _names(settings: Settings) -> list[str]:
    return folders(settings).list("ipadapter")


def _digest(settings: Settings, ipadapter_file: str, **_: Any) -> str:
    return settings.digests.of(folders(settings).find("ipadapter", ipadapter_file))


def _preset_digest(settings: Settings, **_: Any) -> str:
    """Of all that the choice is made from."""
    found = folders(settings)
    return " ".join(
        settings.digests.of(found.find(kind, name))
        for kind in ("ipadapter", "clip_vision")
        for name in found.list(kind)
    )


@node(
    "IPAdapterModelLoader",
    category="ipadapter/loaders",
    display_name="IPAdapter Model Loader",
    version="1",
    outside=_digest,
    check=file_check("ipadapter", "IP-Adapter", "ipadapter_file"),
)
def ip_adapter_model_loader(
    settings: Settings, ipadapter_file: Annotated[str, Choice(_names, "models/ipadapter")]
) -> IPAdapterWire:
    """Take an IP-Adapter out of a file; which kind it is, is found from its header."""
    return _open(settings, ipadapter_file)


@node(
    "IPAdapterUnifiedLoader",
    category="ipadapter",
    display_name="IPAdapter Unified Loader",
    version="1",
    outside=_preset_digest,
)
def ip_adapter_unified_loader(
    settings: Settings,
    model: ModelWire,
    preset: Annotated[str, Choice(tuple(PRESETS))] = "LIGHT - SD1.5 only (low strength)",
    ipadapter: IPAdapterWire | None = None,
) -> ModelAndAdapter:
    """Find an IP-Adapter for a model by the name of its file in models/ipadapter, and its image encoder in
    models/clip_vision by what is in it."""
    _check_model(model)
    wanted = PRESETS[preset]
    is_xl = model.family.name == "sdxl"
    if is_xl and len(wanted) == 1:
        raise _problem("wrong_preset", f"{preset!r} is for Stable Diffusion 1.x", "preset", "choose PLUS or STANDARD")
    part = wanted[is_xl]
    name = next((one for one in _names(settings) if part in one.lower()), None)
    if name is None:
        raise _problem(
            "no_model",
            f"there is no file with {part.rstrip('.')!r} in its name in models/ipadapter",
            "preset",
            "get it, or load another one with IPAdapterModelLoader",
        )
    found = _open(settings, name)
    vision = ipadapter.vision if ipadapter is not None and ipadapter.vision is not None else None
    return ModelAndAdapter(model, IPAdapterSet(found.file, vision or _encoder_for(settings, found.file)))


@node(
    "IPAdapter",
    category="ipadapter",
    display_name="IPAdapter",
    version="1",
    lane="device",
    in_turns=True,
    environment=numerics,
)
def ip_adapter(
    settings: Settings,
    model: ModelWire,
    ipadapter: IPAdapterWire,
    image: Image,
    weight: Annotated[float, Range(-1.0, 3.0, 0.05)] = 1.0,
    start_at: _Time = 0.0,
    end_at: _Time = 1.0,
    weight_type: Annotated[str, Choice(tuple(_SIMPLE))] = "standard",
    attn_mask: Mask | None = None,
) -> Adapted:
    """Let a model see images beside the prompt. The adapter comes with its image encoder from the unified loader."""
    found = _applied(
        settings, model, ipadapter, image, weight, _SIMPLE[weight_type], (start_at, end_at), mask=attn_mask
    )
    return Adapted(found)


@node(
    "IPAdapterAdvanced",
    category="ipadapter",
    display_name="IPAdapter Advanced",
    version="1",
    lane="device",
    in_turns=True,
    environment=numerics,
)
def ip_adapter_advanced(
    settings: Settings,
    model: ModelWire,
    ipadapter: IPAdapterWire,
    image: Image,
    weight: Annotated[float, Range(-1.0, 5.0, 0.05)] = 1.0,
    weight_type: Annotated[str, Choice(_TYPES), Help("how the weight differs over the U-Net")] = "linear",
    combine_embeds: Annotated[str, Choice(_COMBINATIONS), Help("several images as one")] = "concat",
    start_at: _Time = 0.0,
    end_at: _Time = 1.0,
    embeds_scaling: Annotated[str, Choice(_SCALINGS), Help("what the weight multiplies")] = "V only",
    image_negative: Image | None = None,
    attn_mask: Mask | None = None,
    clip_vision: ClipVisionHandle | None = None,
) -> Adapted:
    """The same with all options. `image_negative` is what the negative side sees; by default an empty image."""
    found = _applied(
        settings,
        model,
        ipadapter,
        image,
        weight,
        weight_type,
        (start_at, end_at),
        combine_embeds,
        embeds_scaling,
        image_negative,
        attn_mask,
        clip_vision,
    )
    return Adapted(found)


def _applied(
    settings: Settings,
    model: Model,
    adapter: IPAdapterSet,
    image: Any,
    weight: float,
    weight_type: str,
    window: tuple[float, float],
    combine: str = "concat",
    scaling: str = "V only",
    negative: Any = None,
    mask: Any = None,
    vision: Any = None,
) -> Model:
    import torch

    from ..patches.ip_adapter import ImageAttention, IPAdapter
    from ..patches.ip_adapter_layers import combined, layers_of, tokens_of, weights_at

    if weight == 0.0:
        return model
    file, vision = adapter.file, vision or adapter.vision
    _check_fits(model, file, vision)
    name = "image_embeds" if file.kind == "base" else "penultimate_hidden_states"
    seen = encode_images(settings, vision, image, crop=True)[name]
    if negative is not None:
        other = encode_images(settings, vision, negative, crop=True)[name]
    elif file.kind == "plus":
        other = encode_images(settings, vision, torch.zeros(1, _SIDE, _SIDE, 3), crop=True)[name]
    else:
        other = torch.zeros_like(seen[:1])
    tokens = tokens_of(file, combined(seen, combine)).flatten(0, 1)
    empty = tokens_of(file, combined(other, combine)).flatten(0, 1)
    weights = weights_at(model.config.denoiser, weight, weight_type)
    layers, none = layers_of(file, model.config.denoiser, tokens, empty, weights, scaling)
    key = (
        file.digest,
        repr(vision.identity()),
        content_of(image, negative, mask),
        weight,
        weight_type,
        combine,
        scaling,
    )
    masks = None if mask is None else mask.reshape(-1, 1, *mask.shape[-2:])[:1].float()
    made = (ImageAttention((*key, side), window, own, masks) for side, own in (("image", layers), ("empty", none)))
    return model.with_patch(IPAdapter(*made))


def content_of(*tensors: Any) -> str:
    """A digest of the numbers of tensors; None may be among them."""
    from hashlib import sha256

    digest = sha256()
    for tensor in tensors:
        digest.update(b"none" if tensor is None else repr(tuple(tensor.shape)).encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def _open(settings: Settings, name: str) -> IPAdapterSet:
    from ..files.ip_adapter import open_ip_adapter

    path = folders(settings).find("ipadapter", name)
    return IPAdapterSet(open_ip_adapter(path, settings.digests.of(path)))


def _encoder_for(settings: Settings, file: Any) -> ClipVision | None:
    """The first image encoder in models/clip_vision that gives vectors of the width that the adapter takes."""
    from ..families.vision import open_vision

    for name in folders(settings).list("clip_vision"):
        try:
            vision = open_vision(folders(settings).find("clip_vision", name), settings)
        except GraphFlowError:
            continue
        if _width(vision, file) == file.width:
            return vision
    return None


def _width(vision: ClipVision, file: Any) -> int:
    return int(vision.config.projection_dim if file.kind == "base" else vision.config.hidden_size)


def _check_model(model: Model) -> None:
    if "*.attn2" not in model.family.ports.attentions:
        raise _problem(
            "no_port",
            f"IP-Adapters of this pack act on the attention to the text of a U-Net; {model.family.title} has none",
            "model",
            "use Stable Diffusion 1.x or XL",
        )


def _check_fits(model: Model, file: Any, vision: Any) -> None:
    from ..patches.unet_attentions import cross_attentions

    _check_model(model)
    config = model.config.denoiser
    count = len(cross_attentions(config))
    if file.layers != count or file.text != config.cross_attention_dim:
        raise _problem(
            "wrong_adapter",
            f"the IP-Adapter has {file.layers} layers for texts {file.text} wide; {model.family.title} has {count}, "
            f"and texts {config.cross_attention_dim} wide",
            "ipadapter",
            "use an adapter that was made for this family",
        )
    if vision is None:
        raise _problem(
            "no_encoder",
            f"the IP-Adapter sees images by an encoder that gives vectors of {file.width} numbers, and none is given",
            "ipadapter",
            "link CLIPVisionLoader to clip_vision of IPAdapterAdvanced, or put the encoder into models/clip_vision and "
            "use IPAdapterUnifiedLoader",
        )
    if _width(vision, file) != file.width:
        raise _problem(
            "wrong_encoder",
            f"the image encoder gives vectors of {_width(vision, file)} numbers, the IP-Adapter takes {file.width}",
            "ipadapter",
            "most adapters were made for ViT-H, those with vit-G in their names for bigG",
        )


def _problem(code: str, message: str, input: str, hint: str) -> GraphFlowError:
    return GraphFlowError([Problem(code, message, input=input, hint=hint)])
