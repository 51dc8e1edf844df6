"""Schemas of nodes: typed inputs and outputs as objects, turned into the old class form that the adapter reads."""

import inspect
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Any

from graphflow import Blocked

# -- small vocabularies ----------------------------------------------------------------------------------------------


class FolderType(StrEnum):
    input = "input"
    output = "output"
    temp = "temp"


class UploadType(StrEnum):
    image = "image_upload"
    audio = "audio_upload"
    video = "video_upload"
    model = "file_upload"


class RemoteOptions:
    """Where an editor would fetch choices from; kept as it is."""

    def __init__(
        self, route, refresh_button=True, control_after_refresh="first", timeout=None, max_retries=None, refresh=None
    ):
        self.route = route
        self._options = {
            "route": route,
            "refresh_button": refresh_button,
            "control_after_refresh": control_after_refresh,
            "timeout": timeout,
            "max_retries": max_retries,
            "refresh": refresh,
        }

    def as_dict(self):
        return {key: value for key, value in self._options.items() if value is not None}


class NumberDisplay(StrEnum):
    number = "number"
    slider = "slider"
    gradient_slider = "gradientslider"
    color = "color"


class ControlAfterGenerate(StrEnum):
    fixed = "fixed"
    increment = "increment"
    decrement = "decrement"
    randomize = "randomize"


class Hidden(StrEnum):
    """What a node may ask of its run; found in `cls.hidden`."""

    unique_id = "UNIQUE_ID"
    prompt = "PROMPT"
    extra_pnginfo = "EXTRA_PNGINFO"
    dynprompt = "DYNPROMPT"
    auth_token_comfy_org = "AUTH_TOKEN_COMFY_ORG"
    api_key_comfy_org = "API_KEY_COMFY_ORG"


class HiddenHolder:
    def __init__(self, **values):
        for member in Hidden:
            setattr(self, member.name, values.get(member.name))


# -- inputs and outputs ----------------------------------------------------------------------------------------------


class Input:
    """An input of a schema. `as_spec()` is `[type, options]`."""

    io_type = "*"

    def __init__(
        self,
        id,
        display_name=None,
        optional=False,
        tooltip=None,
        lazy=None,
        default=None,
        extra_dict=None,
        raw_link=None,
        advanced=None,
        socketless=None,
        widget_type=None,
        force_input=None,
        **more,
    ):
        self.id, self.display_name, self.optional, self.tooltip = id, display_name, optional, tooltip
        self.default = default
        self.options = {
            "display_name": display_name,
            "tooltip": tooltip,
            "lazy": lazy,
            "default": default,
            "rawLink": raw_link,
            "advanced": advanced,
            "socketless": socketless,
            "widgetType": widget_type,
            "forceInput": force_input,
            **{key: value.value if isinstance(value, Enum) else value for key, value in more.items()},
            **(extra_dict or {}),
        }

    def get_io_type(self):
        return self.io_type

    def as_spec(self):
        return (self.get_io_type(), {key: value for key, value in self.options.items() if value is not None})


class Output:
    """An output of a schema."""

    io_type = "*"
    template = None

    def __init__(self, id=None, display_name=None, tooltip=None, is_output_list=False):
        self.id, self.tooltip, self.is_output_list = id, tooltip, is_output_list
        self.display_name = display_name or id

    def get_io_type(self):
        return self.io_type


class ComfyType:
    """A socket type with an Input and an Output class."""

    io_type = "*"
    Type: Any = Any
    Input = Input
    Output = Output


def _make(name, io_type):
    """A socket type that carries values of one kind."""
    made = type(name, (ComfyType,), {"io_type": io_type})
    made.Input = type("Input", (Input,), {"io_type": io_type, "Parent": made})
    made.Output = type("Output", (Output,), {"io_type": io_type, "Parent": made})
    return made


def comfytype(io_type, **_):
    """Class decorator: a socket type of a pack's own."""

    def decorate(cls):
        cls.io_type = io_type
        for part, base in (("Input", Input), ("Output", Output)):
            own = cls.__dict__.get(part)
            setattr(cls, part, type(part, (own,) if own is not None else (base,), {"io_type": io_type, "Parent": cls}))
        return cls

    return decorate


def Custom(io_type):
    """A socket type by name."""
    return _make(io_type.title().replace("_", ""), io_type)


Boolean = _make("Boolean", "BOOLEAN")
Int = _make("Int", "INT")
Float = _make("Float", "FLOAT")
String = _make("String", "STRING")
Color = _make("Color", "COLOR")


class _IntInput(Int.Input):
    def __init__(
        self, id, *args, display_mode=None, control_after_generate=None, min=None, max=None, step=None, **named
    ):
        super().__init__(
            id,
            *args,
            min=min,
            max=max,
            step=step,
            display=display_mode,
            control_after_generate=control_after_generate,
            **named,
        )


class _FloatInput(Float.Input):
    def __init__(self, id, *args, display_mode=None, min=None, max=None, step=None, round=None, **named):
        super().__init__(id, *args, min=min, max=max, step=step, round=round, display=display_mode, **named)


class _StringInput(String.Input):
    def __init__(self, id, *args, multiline=False, placeholder=None, dynamic_prompts=None, **named):
        super().__init__(
            id, *args, multiline=multiline, placeholder=placeholder, dynamicPrompts=dynamic_prompts, **named
        )


class _BooleanInput(Boolean.Input):
    def __init__(self, id, *args, label_on=None, label_off=None, **named):
        super().__init__(id, *args, label_on=label_on, label_off=label_off, **named)


Int.Input, Float.Input, String.Input, Boolean.Input = _IntInput, _FloatInput, _StringInput, _BooleanInput


class _ComboInput(Input):
    io_type = "COMBO"

    def __init__(
        self,
        id,
        options=None,
        *args,
        upload=None,
        image_folder=None,
        remote=None,
        control_after_generate=None,
        default=None,
        **named,
    ):
        if isinstance(options, type) and issubclass(options, Enum):
            options = [member.value for member in options]
        flag = {upload.value: True} if isinstance(upload, Enum) else {}
        super().__init__(
            id,
            *args,
            options=list(options or []),
            default=default.value if isinstance(default, Enum) else default,
            image_folder=image_folder,
            control_after_generate=control_after_generate,
            remote=remote.as_dict() if remote is not None else None,
            extra_dict=named.pop("extra_dict", {}) | flag,
            **named,
        )


class _ComboOutput(Output):
    io_type = "COMBO"

    def __init__(self, id=None, display_name=None, options=None, tooltip=None, is_output_list=False):
        super().__init__(id, display_name, tooltip, is_output_list)


class Combo(ComfyType):
    io_type = "COMBO"
    Input = _ComboInput
    Output = _ComboOutput


class _MultiComboInput(_ComboInput):
    def __init__(self, id, options, *args, placeholder=None, chip=None, **named):
        super().__init__(
            id, options, *args, extra_dict={"multi_select": {"placeholder": placeholder, "chip": chip}}, **named
        )


class MultiCombo(ComfyType):
    io_type = "COMBO"
    Input = _MultiComboInput


for _name, _type in {
    "Image": "IMAGE",
    "Mask": "MASK",
    "Latent": "LATENT",
    "Conditioning": "CONDITIONING",
    "Sampler": "SAMPLER",
    "Sigmas": "SIGMAS",
    "Noise": "NOISE",
    "Guider": "GUIDER",
    "Clip": "CLIP",
    "ControlNet": "CONTROL_NET",
    "Vae": "VAE",
    "Model": "MODEL",
    "ClipVision": "CLIP_VISION",
    "ClipVisionOutput": "CLIP_VISION_OUTPUT",
    "StyleModel": "STYLE_MODEL",
    "Gligen": "GLIGEN",
    "UpscaleModel": "UPSCALE_MODEL",
    "LatentUpscaleModel": "LATENT_UPSCALE_MODEL",
    "Audio": "AUDIO",
    "Video": "VIDEO",
    "SVG": "SVG",
    "LoraModel": "LORA_MODEL",
    "LossMap": "LOSS_MAP",
    "Voxel": "VOXEL",
    "Mesh": "MESH",
    "File3DAny": "FILE_3D",
    "File3DGLB": "FILE_3D_GLB",
    "File3DGLTF": "FILE_3D_GLTF",
    "File3DFBX": "FILE_3D_FBX",
    "File3DOBJ": "FILE_3D_OBJ",
    "File3DSTL": "FILE_3D_STL",
    "File3DUSDZ": "FILE_3D_USDZ",
    "Hooks": "HOOKS",
    "HookKeyframes": "HOOK_KEYFRAMES",
    "TimestepsRange": "TIMESTEPS_RANGE",
    "LatentOperation": "LATENT_OPERATION",
    "FlowControl": "FLOW_CONTROL",
    "Accumulation": "ACCUMULATION",
    "Load3DCamera": "LOAD3D_CAMERA",
    "Load3D": "LOAD_3D",
    "Load3DAnimation": "LOAD_3D_ANIMATION",
    "Photomaker": "PHOTOMAKER",
    "Point": "POINT",
    "FaceAnalysis": "FACE_ANALYSIS",
    "BBOX": "BBOX",
    "SEGS": "SEGS",
    "AnyType": "*",
    "Webcam": "WEBCAM",
    "AudioEncoder": "AUDIO_ENCODER",
    "AudioEncoderOutput": "AUDIO_ENCODER_OUTPUT",
    "ModelPatch": "MODEL_PATCH",
    "ImageCompare": "IMAGECOMPARE",
    "Tracks": "TRACKS",
    "WanCameraEmbedding": "WAN_CAMERA_EMBEDDING",
}.items():
    globals()[_name] = _make(_name, _type)
Image, Mask, Latent = globals()["Image"], globals()["Mask"], globals()["Latent"]


class _MultiTypeInput(Input):
    def __init__(self, id, types, *args, **named):
        self._types = list(types)
        if isinstance(id, Input):  # an input with a widget that takes other types by link
            self._first, name = id, id.id
            named = {**{key: value for key, value in id.options.items() if value is not None}, **named}
            named.pop("display_name", None)
            super().__init__(name, id.display_name, id.optional, extra_dict=named)
        else:
            self._first = None
            super().__init__(id, *args, **named)

    def get_io_type(self):
        first = [self._first.get_io_type()] if self._first is not None else []
        return ",".join(dict.fromkeys([*first, *(kind.io_type for kind in self._types)]))


class MultiType(ComfyType):
    Input = _MultiTypeInput


# -- inputs that depend on what is given -----------------------------------------------------------------------------


class MatchType(ComfyType):
    """Inputs and outputs of one template carry one type."""

    io_type = "COMFY_MATCHTYPE_V3"

    class Template:
        def __init__(self, template_id, allowed_types=None):
            kinds = (
                allowed_types if isinstance(allowed_types, (list, tuple)) else [allowed_types] if allowed_types else []
            )
            self.template_id = template_id
            self.allowed_types = ",".join(kind.io_type for kind in kinds) or "*"

        def as_dict(self):
            return {"template_id": self.template_id, "allowed_types": self.allowed_types}

    class Input(Input):
        io_type = "COMFY_MATCHTYPE_V3"

        def __init__(self, id, template, *args, **named):
            super().__init__(id, *args, extra_dict={"template": template.as_dict()}, **named)

    class Output(Output):
        io_type = "COMFY_MATCHTYPE_V3"

        def __init__(self, template, id=None, display_name=None, tooltip=None, is_output_list=False):
            super().__init__(id, display_name, tooltip, is_output_list)
            self.template = template


class Autogrow(ComfyType):
    """As many inputs as are linked."""

    io_type = "COMFY_AUTOGROW_V3"
    Type = dict

    class TemplatePrefix:
        def __init__(self, input, prefix, min=1, max=10):
            self.input, self.rest = input, {"prefix": prefix, "min": min, "max": max}

    class TemplateNames:
        def __init__(self, input, names, min=1):
            self.input, self.rest = input, {"names": list(names), "min": min}

    class Input(Input):
        io_type = "COMFY_AUTOGROW_V3"

        def __init__(self, id, template, *args, **named):
            inner = template.input if isinstance(template.input, (list, tuple)) else [template.input]
            super().__init__(id, *args, extra_dict={"template": {"input": _groups(inner), **template.rest}}, **named)


class DynamicCombo(ComfyType):
    """A choice that brings inputs of its own."""

    io_type = "COMFY_DYNAMICCOMBO_V3"
    Type = dict

    class Option:
        def __init__(self, key, inputs):
            self.key, self.inputs = key, list(inputs)

    class Input(Input):
        io_type = "COMFY_DYNAMICCOMBO_V3"

        def __init__(self, id, options, *args, **named):
            found = [{"key": option.key, "inputs": _groups(option.inputs)} for option in options]
            super().__init__(id, *args, extra_dict={"options": found}, **named)


class DynamicGroup(ComfyType):
    """Rows of a table."""

    io_type = "COMFY_DYNAMICGROUP_V3"
    Type = list

    class Input(Input):
        io_type = "COMFY_DYNAMICGROUP_V3"

        def __init__(self, id, template, *args, min=0, max=100, **named):
            inner = template if isinstance(template, (list, tuple)) else [template]
            super().__init__(
                id, *args, extra_dict={"template": {"inputs": _groups(inner), "min": min, "max": max}}, **named
            )


def _groups(inputs):
    found: dict[str, dict[str, Any]] = {}
    for item in inputs:
        found.setdefault("optional" if item.optional else "required", {})[item.id] = item.as_spec()
    return found


# -- nodes -----------------------------------------------------------------------------------------------------------


@dataclass
class Schema:
    """What a node is."""

    node_id: str
    display_name: str | None = None
    category: str = "sd"
    inputs: list[Input] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    hidden: list[Hidden] = field(default_factory=list)
    description: str = ""
    search_aliases: list[str] = field(default_factory=list)
    is_input_list: bool = False
    is_output_node: bool = False
    is_deprecated: bool = False
    is_experimental: bool = False
    is_dev_only: bool = False
    is_api_node: bool = False
    not_idempotent: bool = False
    enable_expand: bool = False
    accept_all_inputs: bool = False
    essentials_category: str | None = None
    price_badge: Any = None
    has_intermediate_output: bool = False


class NodeOutput:
    """What a node gives: outputs in order, what it shows, more graph, or a block."""

    def __init__(self, *args, ui=None, expand=None, block_execution=None):
        self.args, self.ui, self.expand, self.block_execution = args, ui, expand, block_execution

    @property
    def result(self):
        return self.args or None

    @classmethod
    def from_dict(cls, data):
        return cls(*data.get("result", ()), ui=data.get("ui"), expand=data.get("expand"))


class ComfyNode:
    """A node: `define_schema` describes it, `execute` runs it; both are class methods, and there is no state."""

    SCHEMA = None
    hidden = HiddenHolder()

    @classmethod
    def define_schema(cls) -> Schema:
        raise NotImplementedError(f"{cls.__name__} has no define_schema")

    @classmethod
    def execute(cls, **kwargs):
        raise NotImplementedError(f"{cls.__name__} has no execute")

    @classmethod
    def GET_SCHEMA(cls) -> Schema:
        if cls.__dict__.get("SCHEMA") is None:
            cls.SCHEMA = cls.define_schema()
        return cls.SCHEMA

    @classmethod
    def as_old_class(cls) -> type:
        """The same node in the old form."""
        return _old_class(cls)


_HOOKS = {"validate_inputs": "VALIDATE_INPUTS", "fingerprint_inputs": "IS_CHANGED"}


def _old_class(node: type[ComfyNode]) -> type:
    schema = node.define_schema()
    hidden = {member.name: (member.value,) for member in schema.hidden}

    def with_hidden(values):
        """(the class as `execute` sees it, the other values)"""
        named = {name: values.pop(name, None) for name in hidden}
        if schema.is_input_list:
            named = {name: value[0] if isinstance(value, list) else value for name, value in named.items()}
        return type(node.__name__, (node,), {"hidden": HiddenHolder(**named)}), values

    def input_types(cls):
        groups = _groups(node.define_schema().inputs)
        found = {"required": groups.get("required", {}), "optional": groups.get("optional", {}), "hidden": hidden}
        if schema.accept_all_inputs:
            found["optional"] = _Anything(found["optional"])
        return found

    def execute(self, **values):
        cls, rest = with_hidden(values)
        return _told(cls.execute(**rest), cls)

    async def execute_async(self, **values):
        cls, rest = with_hidden(values)
        return _told(await cls.execute(**rest), cls)

    outputs = schema.outputs
    body = {
        "NODE_ID": schema.node_id,
        "DISPLAY_NAME": schema.display_name or schema.node_id,
        "CATEGORY": schema.category,
        "DESCRIPTION": schema.description,
        "INPUT_TYPES": classmethod(input_types),
        "FUNCTION": "execute",
        "execute": execute_async if inspect.iscoroutinefunction(node.execute) else execute,
        "RETURN_TYPES": tuple(out.get_io_type() for out in outputs),
        "RETURN_NAMES": tuple(out.display_name or out.get_io_type() for out in outputs),
        "OUTPUT_IS_LIST": tuple(out.is_output_list for out in outputs),
        "OUTPUT_TOOLTIPS": tuple(out.tooltip or "" for out in outputs),
        "OUTPUT_MATCHTYPES": tuple(out.template.template_id if out.template else None for out in outputs),
        "OUTPUT_NODE": schema.is_output_node,
        "INPUT_IS_LIST": schema.is_input_list,
        "NOT_IDEMPOTENT": schema.not_idempotent,
        "DEPRECATED": schema.is_deprecated,
        "EXPERIMENTAL": schema.is_experimental,
        "API_NODE": schema.is_api_node,
        "DEV_ONLY": schema.is_dev_only,
    }
    for name, old in _HOOKS.items():
        if hasattr(node, name):
            body[old] = getattr(node, name)
    if hasattr(node, "check_lazy_status"):
        body["check_lazy_status"] = staticmethod(_lazy(node, hidden))
    return type(node.__name__, (), body)


def _lazy(node, hidden):
    def check_lazy_status(**values):
        return node.check_lazy_status(**{name: value for name, value in values.items() if name not in hidden})

    return check_lazy_status


class _Anything(dict):
    """Takes inputs that are not declared."""

    def __contains__(self, name):
        return True


def _told(given, cls):
    """A NodeOutput, a tuple or a dict, in the old form."""
    if given is None or isinstance(given, (dict, tuple, list, Blocked)):
        return given
    if not isinstance(given, NodeOutput):
        return (given,)
    if given.block_execution is not None:
        return Blocked(given.block_execution)
    answer = {"result": tuple(given.args)}
    if given.ui is not None:
        answer["ui"] = given.ui if isinstance(given.ui, dict) else given.ui.as_dict()
    if given.expand is not None:
        answer["expand"] = given.expand
    return answer
