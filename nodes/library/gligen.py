"""GLIGEN: things in boxes, for Stable Diffusion 1.x."""

from typing import Annotated, Any

from graphflow import Choice, Conditioning, GraphFlowError, Multiline, Problem, Range, Settings, Wire, node

from ..devices.environment import numerics
from ..families.model_patches import check_gligen
from ..model.wires import ClipWire
from .loaders import folders

Gligen = Annotated[Any, Wire("GLIGEN")]
KIND = "gligen"
_CELL = 8
_Side = Annotated[int, Range(8, 16384, 8)]
_Place = Annotated[int, Range(0, 16384, 8)]


def _names(settings: Settings) -> list[str]:
    return folders(settings).list(KIND)


def _digest(settings: Settings, gligen_name: str, **_: Any) -> str:
    return settings.digests.of(folders(settings).find(KIND, gligen_name))


@node("GLIGENLoader", category="loaders", version="1", outside=_digest, check=check_gligen)
def gligen_loader(settings: Settings, gligen_name: Annotated[str, Choice(_names, "models/gligen")]) -> Gligen:
    """Take a GLIGEN for boxes with texts out of a file."""
    from ..families.model_patches import open_gligen

    return open_gligen(folders(settings).find(KIND, gligen_name), settings)


@node(
    "GLIGENTextBoxApply",
    category="conditioning/gligen",
    version="1",
    lane="device",
    in_turns=True,
    environment=numerics,
)
def gligen_text_box_apply(
    settings: Settings,
    conditioning_to: Conditioning,
    clip: ClipWire,
    gligen_textbox_model: Gligen,
    text: Annotated[str, Multiline(words=True)],
    width: _Side = 64,
    height: _Side = 64,
    x: _Place = 0,
    y: _Place = 0,
) -> Conditioning:
    """Let what a text names be drawn in a rectangle, in pixels. Several of these nodes on one conditioning make several
    boxes, up to 30."""
    import torch

    from ..devices.use import open_device
    from ..families.text import encode_prompt
    from ..model.entry import Control

    encoded = encode_prompt(open_device(settings), clip, text, {})
    pooled = encoded[0].pooled
    wanted = gligen_textbox_model.config.denoiser.text
    if pooled is None or pooled.shape[-1] != wanted:
        found = "none" if pooled is None else str(pooled.shape[-1])
        raise _problem("wrong_clip", f"GLIGEN takes a text as {wanted} numbers, this encoder gives {found}", "clip")
    place = [float(side // _CELL) for side in (height, width, y, x)]
    box = torch.cat([pooled.float().cpu(), torch.tensor(place)])[None, None]
    made = []
    for embedding, options in conditioning_to:
        controls = options.get("control", ())
        controls = tuple(controls) if isinstance(controls, list | tuple) else (controls,)
        before = [one for one in controls if getattr(one, "model", None) == gligen_textbox_model]
        hint = torch.cat([*(one.hint for one in before), box], dim=1)
        _check_count(hint.shape[1])
        others = tuple(one for one in controls if one not in before)
        made.append((embedding, {**options, "control": (*others, Control(gligen_textbox_model, hint))}))
    return made


def _check_count(count: int) -> None:
    from ..families.gligen import BOXES

    if count > BOXES:
        raise _problem("too_many_boxes", f"these are {count} boxes, GLIGEN takes {BOXES}", "conditioning_to")


def _problem(code: str, message: str, input: str) -> GraphFlowError:
    return GraphFlowError([Problem(code, message, input=input, hint="leave some out, or use Stable Diffusion 1.x")])
