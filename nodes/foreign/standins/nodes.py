"""The node library under the old names, for packs that call it: `nodes.SaveImage().save_images(...)`."""

from collections.abc import Mapping

from graphflow import NodeType, Registry, Ui
from graphflow.foreign import current, current_settings
from graphflow.formats.object_info import describe

MAX_RESOLUTION = 16384
_METHODS = {
    "SaveImage": "save_images", "PreviewImage": "save_images", "LoadImage": "load_image", "VAEDecode": "decode",
    "VAEEncode": "encode", "CLIPTextEncode": "encode", "EmptyLatentImage": "generate", "KSampler": "sample",
    "KSamplerAdvanced": "sample", "ConditioningCombine": "combine", "LatentUpscale": "upscale",
    "LatentUpscaleBy": "upscale", "ImageScale": "upscale", "ImageScaleBy": "upscale", "ImageInvert": "invert",
    "CheckpointLoaderSimple": "load_checkpoint", "VAELoader": "load_vae", "CLIPSetLastLayer": "set_last_layer",
    "ConditioningZeroOut": "zero_out", "LoraLoader": "load_lora",
}  # fmt: skip


def _face(kind: NodeType) -> type:
    method = _METHODS.get(kind.name, "execute")

    def run(self, *values, **named):
        given = dict(zip(kind.inputs, values, strict=False)) | {
            name: value for name, value in named.items() if name in kind.inputs
        }
        arguments = {**kind.defaults, **given}
        call = current()
        if kind.settings is not None:
            arguments[kind.settings] = current_settings()
        if kind.context is not None:
            if call is None:
                raise RuntimeError(f"{kind.name} can be called only while a node runs")
            arguments[kind.context] = call.context
        found = kind.function(**kind.arguments(arguments))
        if isinstance(found, Ui):
            return {"ui": found.data, "result": tuple(found.outputs)}
        return tuple(found) if len(kind.outputs) > 1 else (found,)

    def input_types(cls):
        return describe(kind, current_settings())["input"]

    return type(kind.name, (), {
        "INPUT_TYPES": classmethod(input_types), "RETURN_TYPES": tuple(out.type for out in kind.outputs),
        "RETURN_NAMES": tuple(out.name for out in kind.outputs), "FUNCTION": method, "CATEGORY": kind.category,
        "OUTPUT_NODE": kind.is_output, "DESCRIPTION": kind.help, method: run,
    })  # fmt: skip


class _Classes(Mapping):
    """Made when they are asked for."""

    def __init__(self):
        self._types, self._known = None, {}

    def _all(self):
        if self._types is None:
            self._types = Registry.installed()
        return self._types

    def __getitem__(self, name):
        if name not in self._known:
            self._known[name] = _face(self._all()[name])
        return self._known[name]

    def __iter__(self):
        return iter(self._all())

    def __len__(self):
        return len(self._all())


NODE_CLASS_MAPPINGS = _Classes()


class _Titles(Mapping):
    def __getitem__(self, name):
        return NODE_CLASS_MAPPINGS._all()[name].display_name

    def __iter__(self):
        return iter(NODE_CLASS_MAPPINGS)

    def __len__(self):
        return len(NODE_CLASS_MAPPINGS)


NODE_DISPLAY_NAME_MAPPINGS = _Titles()
EXTENSION_WEB_DIRS = {}


def before_node_execution():
    """Raises if the run is to stop."""
    call = current()
    if call is not None:
        call.context.check_cancelled()


def interrupt_processing(value=True):
    """A node cannot stop other runs; it may raise."""


def __getattr__(name):
    if name in NODE_CLASS_MAPPINGS:
        return NODE_CLASS_MAPPINGS[name]
    raise AttributeError(f"the node library has no {name!r}")
