"""The node library under the old names, for packs that call it: `nodes.VAEDecode().decode(vae, samples)`."""

import json
import math
import random
from collections.abc import MutableMapping
from pathlib import Path

import folder_paths
from graphflow_nodes.foreign.methods import inward, outward
from graphflow_nodes.library.images import saved_images

from graphflow import NodeType, Registry, Ui
from graphflow.spi import current, current_settings, describe, inner_context, share

MAX_RESOLUTION = 16384
_METHODS = {
    "LoadImage": "load_image",
    "LoadImageMask": "load_image",
    "EmptyImage": "generate",
    "ImageScale": "upscale",
    "ImageScaleBy": "upscale",
    "ImageInvert": "invert",
    "ImageBatch": "batch",
    "ImagePadForOutpaint": "expand_image",
    "VAEDecode": "decode",
    "VAEEncode": "encode",
    "VAEEncodeForInpaint": "encode",
    "VAELoader": "load_vae",
    "CheckpointLoaderSimple": "load_checkpoint",
    "DiffusersLoader": "load_checkpoint",
    "CLIPTextEncode": "encode",
    "CLIPSetLastLayer": "set_last_layer",
    "LoraLoader": "load_lora",
    "LoraLoaderModelOnly": "load_lora_model_only",
    "ControlNetLoader": "load_controlnet",
    "ControlNetApply": "apply_controlnet",
    "ControlNetApplyAdvanced": "apply_controlnet",
    "UNETLoader": "load_unet",
    "CLIPLoader": "load_clip",
    "DualCLIPLoader": "load_clip",
    "ConditioningCombine": "combine",
    "ConditioningZeroOut": "zero_out",
    "KSampler": "sample",
    "KSamplerAdvanced": "sample",
    "EmptyLatentImage": "generate",
    "LatentUpscale": "upscale",
    "LatentUpscaleBy": "upscale",
    "LatentFromBatch": "frombatch",
    "RepeatLatentBatch": "repeat",
    "LatentRotate": "rotate",
    "LatentFlip": "flip",
    "LatentCrop": "crop",
    "LatentComposite": "composite",
    "LatentBlend": "blend",
    "SetLatentNoiseMask": "set_mask",
    "SaveLatent": "save",
    "LoadLatent": "load",
    "ImageUpscaleWithModel": "upscale",
    "UpscaleModelLoader": "load_model",
    "CLIPVisionLoader": "load_clip",
    "CLIPVisionEncode": "encode",
    "StyleModelLoader": "load_style_model",
    "StyleModelApply": "apply_stylemodel",
    "unCLIPConditioning": "apply_adm",
    "InpaintModelConditioning": "encode",
    "VAEDecodeTiled": "decode",
    "VAEEncodeTiled": "encode",
    "ConditioningAverage": "addWeighted",
    "ConditioningConcat": "concat",
    "ConditioningSetArea": "append",
    "ConditioningSetAreaPercentage": "append",
    "ConditioningSetMask": "append",
    "ConditioningSetTimestepRange": "set_range",
    "DifferentialDiffusion": "apply",
    "GLIGENLoader": "load_gligen",
    "GLIGENTextBoxApply": "append",
    "FluxGuidance": "append",
    "FreeU": "patch",
    "FreeU_V2": "patch",
    "RescaleCFG": "patch",
    "PerturbedAttentionGuidance": "patch",
    "ModelSamplingDiscrete": "patch",
    "ModelSamplingContinuousEDM": "patch",
    "ModelSamplingFlux": "patch",
    "ModelSamplingSD3": "patch",
    "ModelSamplingAuraFlow": "patch_aura",
    "ModelMergeSimple": "merge",
    "MaskComposite": "combine",
    "GrowMask": "expand_mask",
    "InvertMask": "invert",
    "MaskToImage": "mask_to_image",
    "ImageToMask": "image_to_mask",
    "SolidMask": "solid",
    "BasicScheduler": "get_sigmas",
    "KarrasScheduler": "get_sigmas",
    "KSamplerSelect": "get_sampler",
    "RandomNoise": "get_noise",
    "BasicGuider": "get_guider",
    "CFGGuider": "get_guider",
    "SamplerCustom": "sample",
    "SamplerCustomAdvanced": "sample",
}
_FIRST = {"CLIPTextEncode": ["clip"], "VAEDecode": ["vae"], "VAEEncode": ["vae"], "VAEEncodeForInpaint": ["vae"]}
"""What a call by position gives first; all else is in the order of the node's inputs."""


def _face(kind: NodeType) -> type:
    """A class of the old form that calls one of our nodes."""
    method = _METHODS.get(kind.name, "execute")
    order = list(dict.fromkeys([*_FIRST.get(kind.name, ()), *kind.inputs]))

    def run(*values, **named):  # without an instance: newer packs call `ImageInvert.execute(image)`
        if len(values) > len(order):
            raise TypeError(f"{kind.name} takes {len(order)} values ({', '.join(order)}), not {len(values)}")
        given = dict(zip(order, values, strict=False)) | {
            name: value for name, value in named.items() if name in kind.inputs
        }
        arguments = {**kind.defaults, **given}
        if kind.settings is not None:
            arguments[kind.settings] = current_settings()
        if kind.context is not None:
            arguments[kind.context] = inner_context(kind.name)
        arguments = {name: inward(value) for name, value in arguments.items()}
        found = outward(share(kind.function(**kind.arguments(arguments))))  # a pack may write into it
        if isinstance(found, Ui):
            return {"ui": found.data, "result": tuple(found.outputs)}
        return tuple(found) if len(kind.outputs) > 1 else (found,)

    def input_types(cls):
        return describe(kind, current_settings())["input"]

    def is_changed(cls, **values):
        known = {name: values[name] for name in kind.asks_about if values.get(name) is not None}
        if len(known) < len(kind.asks_about):  # which file it is is known only in the run
            return math.nan
        return kind.outside(current_settings(), **known)

    reads = {"IS_CHANGED": classmethod(is_changed)} if kind.outside is not None else {}
    return type(
        kind.name,
        (),
        {
            "INPUT_TYPES": classmethod(input_types),
            "RETURN_TYPES": tuple(out.type for out in kind.outputs),
            "RETURN_NAMES": tuple(out.name for out in kind.outputs),
            "FUNCTION": method,
            "CATEGORY": kind.category,
            "OUTPUT_NODE": kind.is_output,
            "DESCRIPTION": kind.help,
            method: staticmethod(run),
            "execute": staticmethod(run),
            **reads,
        },
    )


class SaveImage:
    """Writes images as PNG. Packs derive from it and set another folder or name in `__init__`."""

    RETURN_TYPES = ()
    FUNCTION = "save_images"
    OUTPUT_NODE = True
    CATEGORY = "image"
    DESCRIPTION = "Write images as PNG into the output folder, with the workflow embedded."

    def __init__(self):
        self.output_dir = folder_paths.get_output_directory()
        self.type = "output"
        self.prefix_append = ""
        self.compress_level = 4

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"images": ("IMAGE",), "filename_prefix": ("STRING", {"default": "ComfyUI"})},
            "hidden": {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"},
        }

    def save_images(self, images, filename_prefix="ComfyUI", prompt=None, extra_pnginfo=None):
        """The images carry the prompt and the texts that are given, unless the settings switch metadata off."""
        context = inner_context(type(self).__name__)
        given = {**({} if prompt is None else {"prompt": prompt}), **(extra_pnginfo or {})}
        texts = {key: json.dumps(value) for key, value in given.items()} if context.settings.metadata else {}
        prefix = filename_prefix + self.prefix_append
        saved = saved_images(images, context, Path(self.output_dir), prefix, self.type, texts, self.compress_level)
        return {"ui": {"images": saved}}


class PreviewImage(SaveImage):
    """Writes images into the folder for temporary files."""

    DESCRIPTION = "Write images into the folder for temporary files."

    def __init__(self):
        self.output_dir = folder_paths.get_temp_directory()
        self.type = "temp"
        self.prefix_append = f"_temp_{random.randrange(16**5):05x}"
        self.compress_level = 1

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"images": ("IMAGE",)},
            "hidden": {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"},
        }


def common_ksampler(
    model,
    seed,
    steps,
    cfg,
    sampler_name,
    scheduler,
    positive,
    negative,
    latent,
    denoise=1.0,
    disable_noise=False,
    start_step=None,
    last_step=None,
    force_full_denoise=False,
):
    """KSampler, or with a part of the steps or without noise of its own KSamplerAdvanced, in one call."""
    if not disable_noise and start_step is None and last_step is None:
        return NODE_CLASS_MAPPINGS["KSampler"]().sample(
            model, seed, steps, cfg, sampler_name, scheduler, positive, negative, latent, denoise
        )
    if denoise != 1.0:
        raise ValueError("common_ksampler takes either a part of the steps or a denoise below 1, not both")
    return NODE_CLASS_MAPPINGS["KSamplerAdvanced"]().sample(
        model,
        "disable" if disable_noise else "enable",
        seed,
        steps,
        cfg,
        sampler_name,
        scheduler,
        positive,
        negative,
        latent,
        start_step or 0,
        10000 if last_step is None else last_step,
        "disable" if force_full_denoise else "enable",
    )


class _Classes(MutableMapping):
    """Ours, each made when it is asked for, and those that packs add."""

    def __init__(self):
        self._types, self._known = None, {"SaveImage": SaveImage, "PreviewImage": PreviewImage}
        self._assigned = {}

    def _all(self):
        if self._types is None:
            self._types = Registry.installed()
        return self._types

    def __getitem__(self, name):
        if name not in self._known:
            self._known[name] = _face(self._all()[name])
        return self._known[name]

    def __setitem__(self, name, kind):
        self._known[name] = self._assigned[name] = kind

    def __delitem__(self, name):
        del self._known[name]
        self._assigned.pop(name, None)

    def assigned_by(self, package):
        """The classes that a pack put here and that are its own."""
        return {name: kind for name, kind in self._assigned.items() if f"{kind.__module__}.".startswith(f"{package}.")}

    def tell(self, classes):
        """The classes of a pack that was loaded, for the other packs."""
        self._known.update(classes)

    def __iter__(self):
        return iter(dict.fromkeys([*self._all(), *self._known]))

    def __len__(self):
        return len(self._all().keys() | self._known.keys())


NODE_CLASS_MAPPINGS = _Classes()


class _Titles(MutableMapping):
    def __init__(self):
        self._added = {}

    def __getitem__(self, name):
        return self._added[name] if name in self._added else NODE_CLASS_MAPPINGS._all()[name].display_name

    def __setitem__(self, name, title):
        self._added[name] = title

    def __delitem__(self, name):
        del self._added[name]

    def __iter__(self):
        return iter(dict.fromkeys([*NODE_CLASS_MAPPINGS._all(), *self._added]))

    def __len__(self):
        return len(NODE_CLASS_MAPPINGS._all().keys() | self._added.keys())


NODE_DISPLAY_NAME_MAPPINGS = _Titles()
EXTENSION_WEB_DIRS = {}


def before_node_execution():
    """Raises if the run is to stop."""
    call = current()
    if call is not None:
        call.context.check_cancelled()


def interrupt_processing(value=True):
    """A node cannot stop other runs; it may raise."""


_ABSENT = {
    "LoraLoader",
    "LoraLoaderModelOnly",
    "ControlNetLoader",
    "ControlNetApply",
    "ControlNetApplyAdvanced",
    "UNETLoader",
    "CLIPLoader",
    "DualCLIPLoader",
    "CLIPVisionLoader",
    "CLIPVisionEncode",
    "StyleModelLoader",
    "StyleModelApply",
    "unCLIPConditioning",
    "GLIGENLoader",
    "GLIGENTextBoxApply",
    "VAEDecodeTiled",
    "VAEEncodeTiled",
    "ConditioningAverage",
    "ConditioningConcat",
    "ConditioningSetArea",
    "ConditioningSetAreaPercentage",
    "ConditioningSetMask",
    "ConditioningSetTimestepRange",
    "InpaintModelConditioning",
    "CheckpointLoader",
    "unCLIPCheckpointLoader",
}
"""Classes that packs import and that we lack. A pack is not to fail of the one of its nodes that uses one."""


def _absent(name):
    """A class that can be imported and raises when it is used."""

    class Absent:
        def __init__(self):
            raise NotImplementedError(f"the node library has no {name}")

        @classmethod
        def INPUT_TYPES(cls):
            raise NotImplementedError(f"the node library has no {name}")

    Absent.__name__ = Absent.__qualname__ = name
    return Absent


def __getattr__(name):
    if name == "__all__":  # `from nodes import *`
        return [
            *(word for word in globals() if not word.startswith("_")),
            *filter(str.isidentifier, NODE_CLASS_MAPPINGS),
        ]
    if name in NODE_CLASS_MAPPINGS:
        return NODE_CLASS_MAPPINGS[name]
    if name in _ABSENT:
        return _absent(name)
    raise AttributeError(f"the node library has no {name!r}")
