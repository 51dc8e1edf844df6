"""Nodes that put a LoRA on a model. Nothing is merged here: a handle gets one more patch, and the device's pool merges
it."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple

from graphflow import Choice, Context, Range, Settings, node

from ..families.check_files import file_check
from ..model.handles import Model
from ..model.wires import ClipWire, ModelWire
from .loaders import folders

_Strength = Annotated[float, Range(-100.0, 100.0, 0.01)]


def _listed(settings: Settings) -> list[str]:
    return folders(settings).list("loras")


_Lora = Annotated[str, Choice(_listed, "models/loras")]
_CHECK = file_check("loras", "LoRA", "lora_name")


def _digest(settings: Settings, lora_name: str, **_: Any) -> str:
    return settings.digests.of(folders(settings).find("loras", lora_name))


class Both(NamedTuple):
    MODEL: ModelWire
    CLIP: ClipWire


@node("LoraLoader", category="loaders", display_name="Load LoRA", version="1", outside=_digest, check=_CHECK)
def lora_loader(
    settings: Settings,
    context: Context,
    model: ModelWire,
    clip: ClipWire,
    lora_name: _Lora,
    strength_model: _Strength = 1.0,
    strength_clip: _Strength = 1.0,
) -> Both:
    """Change a model and its text encoders by a LoRA or one of its relatives (LoCon, LoHa, LoKr, DoRA, GLoRA, OFT,
    differences).

    It is merged into the weights, in float32 and in the order of the nodes. A file of which no module fits the model is
    refused; where some do not fit, a line reports how many.
    """
    found = _applied(settings, context, lora_name, (model, strength_model), (clip, strength_clip), _merged)
    return Both(*found)


@node(
    "LoraLoaderModelOnly",
    category="loaders",
    display_name="Load LoRA (Model)",
    version="1",
    outside=_digest,
    check=_CHECK,
)
def lora_loader_model_only(
    settings: Settings, context: Context, model: ModelWire, lora_name: _Lora, strength_model: _Strength = 1.0
) -> ModelWire:
    """The same for the model alone: what the file holds for text encoders is not used."""
    changed: Model = _applied(settings, context, lora_name, (model, strength_model), use=_merged)[0]
    return changed


@node(
    "LoraLoaderBypass",
    category="loaders",
    display_name="Load LoRA (Bypass)",
    version="1",
    outside=_digest,
    check=_CHECK,
)
def lora_loader_bypass(
    settings: Settings,
    context: Context,
    model: ModelWire,
    clip: ClipWire,
    lora_name: _Lora,
    strength_model: _Strength = 1.0,
    strength_clip: _Strength = 1.0,
) -> Both:
    """Apply a LoRA beside the weights, which stay as they are: samplers with different LoRAs of one rank share passes.

    Low-rank modules of the denoiser only; all others, and those of the text encoders, are merged, and a line reports
    how many.
    """
    found = _applied(settings, context, lora_name, (model, strength_model), (clip, strength_clip), _by_rows)
    return Both(*found)


@node(
    "LoraLoaderBypassModelOnly",
    category="loaders",
    display_name="Load LoRA (Bypass, Model)",
    version="1",
    outside=_digest,
    check=_CHECK,
)
def lora_loader_bypass_model_only(
    settings: Settings, context: Context, model: ModelWire, lora_name: _Lora, strength_model: _Strength = 1.0
) -> ModelWire:
    """The same for the model alone."""
    changed: Model = _applied(settings, context, lora_name, (model, strength_model), use=_by_rows)[0]
    return changed


def _applied(
    settings: Settings,
    context: Context,
    name: str,
    model: tuple[Any, float],
    clip: tuple[Any, float] | None = None,
    use: Callable[..., Any] | None = None,
) -> list[Any]:
    """The handles with the patches of a file in models/loras."""
    from ..patches.lora import LoraFile

    path = folders(settings).find("loras", name)
    file = LoraFile(str(path), settings.digests.of(path))
    return with_lora(context, file, [model] if clip is None else [model, clip], "lora_name", use or _merged)


def with_lora(
    context: Context,
    file: Any,
    pairs: Sequence[tuple[Any, float]],
    input: str,
    use: Callable[..., Any] | None = None,
) -> list[Any]:
    """Handles with the patches of a LoRA (`patches.lora.LoraFile`), each at its strength. A strength of 0 leaves a
    handle as it is, and the file is checked all the same."""
    from ..patches.lora import check_fits, checked_numbers, fit_to

    fit = fit_to(file, *(handle for handle, _ in pairs))
    warning = check_fits(file, fit, pairs[0][0].family, input)
    if warning is not None:
        context.say(f"Warning: {warning}")
    checked_numbers(file, fit.matches, input)
    use = use or _merged
    return [handle if strength == 0.0 else use(context, file, fit, handle, strength) for handle, strength in pairs]


def _merged(context: Context, file: Any, fit: Any, handle: Any, strength: float) -> Any:
    from ..patches.lora import Lora, parts_of

    parts = parts_of(handle)
    matches = tuple(match for match in fit.matches if match.part in parts)
    return handle.with_patch(Lora(file, strength, matches, fit.total)) if matches else handle


def _by_rows(context: Context, file: Any, fit: Any, handle: Any, strength: float) -> Any:
    from ..patches.lora import Lora
    from ..patches.lora_keys import DENOISER
    from ..patches.lora_rows import LoraByRows, by_rows

    if DENOISER not in dict(handle.sources):
        return _merged(context, file, fit, handle, strength)
    mine = tuple(match for match in fit.matches if match.part == DENOISER)
    rows = tuple(match for match in mine if by_rows(match))
    rest = tuple(match for match in mine if not by_rows(match))
    if rest:
        context.say(f"{file.name}: {len(rest)} of {len(mine)} modules are not low-rank terms alone, and are merged")
        handle = handle.with_patch(Lora(file, strength, rest, fit.total, frozenset(match.name for match in rest)))
    return handle.with_patch(LoraByRows(file, strength, rows, fit.total)) if rows else handle
