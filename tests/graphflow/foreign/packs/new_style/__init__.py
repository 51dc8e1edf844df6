"""A pack in the newer style."""

from enum import Enum

from comfy_api.latest import ComfyAPI, ComfyAPISync, ComfyExtension, io, ui
from comfy_api.v0_0_2 import io as dated

assert dated is io
api, api_sync = ComfyAPI(), ComfyAPISync()


class Case(Enum):
    UPPER = "upper"
    LOWER = "lower"


@io.comfytype(io_type="NEW_PAIR")
class Pair:
    Type = tuple


class Shout(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="NewShout",
            display_name="Shout",
            category="new",
            description="Changes the case of a text.",
            inputs=[
                io.String.Input("text", multiline=True, default="hello"),
                io.Combo.Input("case", options=Case, default=Case.UPPER),
                io.Int.Input("times", default=1, min=1, max=5, display_mode=io.NumberDisplay.slider),
                io.Boolean.Input("loud", default=False, optional=True),
            ],
            outputs=[io.String.Output("TEXT", display_name="text"), io.Int.Output(display_name="length")],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
        )

    @classmethod
    def execute(cls, text, case, times, loud=False):
        assert cls.hidden.unique_id in cls.hidden.prompt
        api_sync.execution.set_progress(1, 2)
        told = (text.upper() if case == "upper" else text.lower()) * times + ("!" if loud else "")
        return io.NodeOutput(told, len(told))

    @classmethod
    def validate_inputs(cls, text):
        return "say something" if text == "" else True

    @classmethod
    def fingerprint_inputs(cls, text, **rest):
        return len(text)


class Switch(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        template = io.MatchType.Template("switch")
        return io.Schema(
            node_id="NewSwitch",
            category="new",
            inputs=[
                io.Boolean.Input("switch", default=True),
                io.MatchType.Input("on_false", template=template, lazy=True, optional=True),
                io.MatchType.Input("on_true", template=template, lazy=True, optional=True),
            ],
            outputs=[io.MatchType.Output(template=template, display_name="output")],
        )

    @classmethod
    def check_lazy_status(cls, switch, on_false=None, on_true=None):
        if switch and on_true is None:
            return ["on_true"]
        if not switch and on_false is None:
            return ["on_false"]

    @classmethod
    def execute(cls, switch, on_true=None, on_false=None):
        return io.NodeOutput(on_true if switch else on_false)


class Many(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        grow = io.Autogrow.TemplatePrefix(io.String.Input("part", force_input=True), prefix="part", min=1, max=20)
        names = io.Autogrow.TemplateNames(io.Int.Input("n", optional=True), names=["a", "b"], min=0)
        return io.Schema(
            node_id="NewMany",
            category="new",
            inputs=[
                io.Autogrow.Input("parts", template=grow),
                io.Autogrow.Input("numbers", template=names),
                io.DynamicCombo.Input(
                    "how",
                    options=[
                        io.DynamicCombo.Option("join", [io.String.Input("separator", default="+")]),
                        io.DynamicCombo.Option("count", []),
                    ],
                ),
            ],
            outputs=[io.String.Output()],
        )

    @classmethod
    def execute(cls, parts, numbers, how):
        if how["how"] == "count":
            return io.NodeOutput(f"{sorted(parts)} {numbers}")
        return io.NodeOutput(how["separator"].join(parts.values()))


class Save(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="NewSave",
            category="new",
            is_output_node=True,
            inputs=[io.Image.Input("images"), io.String.Input("prefix", default="new")],
        )

    @classmethod
    async def execute(cls, images, prefix):
        await api.execution.set_progress(1, 1)
        return io.NodeOutput(ui=ui.ImageSaveHelper.get_save_images_ui(images, prefix, cls=cls))


class Preview(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="NewPreview",
            category="new",
            is_output_node=True,
            inputs=[
                io.MultiType.Input("value", types=[io.String, io.Int]),
                io.Custom("THING").Input("thing", optional=True),
            ],
        )

    @classmethod
    def execute(cls, value, thing=None):
        return io.NodeOutput(ui=ui.PreviewText(f"{value} {thing}"))


class Extension(ComfyExtension):
    async def get_node_list(self):
        return [Shout, Switch, Many, Save, Preview]


async def comfy_entrypoint():
    return Extension()
