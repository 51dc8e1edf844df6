"""Hooks: a LoRA or another checkpoint on some conditionings only, by mask, and with a strength that changes over the
sampling."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Annotated, Any, NamedTuple

from graphflow import Choice, Context, GraphFlowError, Help, Problem, Range, Settings, Wire, node

from ..families.check_files import file_check
from ..model.carried_hooks import CarriedHooks
from ..model.hook import Hook, Keyframe
from ..model.wires import ClipWire
from .loaders import folders
from .regions import Hooks

HookKeyframes = Annotated[Any, Wire("HOOK_KEYFRAMES")]
"""A tuple of `model.hook.Keyframe`."""
Floats = Annotated[Any, Wire("FLOATS")]
_Strength = Annotated[float, Range(-20.0, 20.0, 0.01)]
_Factor = Annotated[float, Range(0.0, 10.0, 0.001)]
_Time = Annotated[float, Range(0.0, 1.0, 0.001), Help("a share of the sampling: 0 is the beginning, 1 the end")]
_CURVES = ("linear", "ease_in", "ease_out", "ease_in_out")
_Logged = Annotated[bool, Help("write the keyframes to the run's log")]


class Keyframes(NamedTuple):
    HOOK_KF: HookKeyframes


def _loras(settings: Settings) -> list[str]:
    return folders(settings).list("loras")


def _checkpoints(settings: Settings) -> list[str]:
    return folders(settings).list("checkpoints")


def _lora_digest(settings: Settings, lora_name: str, **_: Any) -> str:
    return settings.digests.of(folders(settings).find("loras", lora_name))


def _checkpoint_digest(settings: Settings, ckpt_name: str, **_: Any) -> str:
    return settings.digests.of(folders(settings).find("checkpoints", ckpt_name))


_Lora = Annotated[str, Choice(_loras, "models/loras")]
_Checkpoint = Annotated[str, Choice(_checkpoints, "models/checkpoints")]
_LORA_CHECK = file_check("loras", "LoRA", "lora_name")
_CHECKPOINT_CHECK = file_check("checkpoints", "checkpoint", "ckpt_name")


@node(
    "CreateHookLora",
    category="advanced/hooks/create",
    display_name="Create Hook LoRA",
    version="1",
    outside=_lora_digest,
    check=_LORA_CHECK,
)
def create_hook_lora(
    settings: Settings,
    lora_name: _Lora,
    strength_model: _Strength = 1.0,
    strength_clip: _Strength = 1.0,
    prev_hooks: Hooks | None = None,
) -> Hooks:
    """A LoRA for some conditionings only: set it on them with ConditioningSetProperties or SetClipHooks."""
    return _with_lora(settings, lora_name, strength_model, strength_clip, prev_hooks)


@node(
    "CreateHookLoraModelOnly",
    category="advanced/hooks/create",
    display_name="Create Hook LoRA (MO)",
    version="1",
    outside=_lora_digest,
    check=_LORA_CHECK,
)
def create_hook_lora_model_only(
    settings: Settings, lora_name: _Lora, strength_model: _Strength = 1.0, prev_hooks: Hooks | None = None
) -> Hooks:
    """The same for the model alone."""
    return _with_lora(settings, lora_name, strength_model, 0.0, prev_hooks)


@node(
    "CreateHookModelAsLora",
    category="advanced/hooks/create",
    display_name="Create Hook Model as LoRA",
    version="1",
    outside=_checkpoint_digest,
    check=_CHECKPOINT_CHECK,
)
def create_hook_model_as_lora(
    settings: Settings,
    ckpt_name: _Checkpoint,
    strength_model: _Strength = 1.0,
    strength_clip: _Strength = 1.0,
    prev_hooks: Hooks | None = None,
) -> Hooks:
    """The difference of a checkpoint and the model that is sampled, as if it were a LoRA: at a strength of 1 the
    conditionings see that checkpoint."""
    return _with_checkpoint(settings, ckpt_name, strength_model, strength_clip, prev_hooks)


@node(
    "CreateHookModelAsLoraModelOnly",
    category="advanced/hooks/create",
    display_name="Create Hook Model as LoRA (MO)",
    version="1",
    outside=_checkpoint_digest,
    check=_CHECKPOINT_CHECK,
)
def create_hook_model_as_lora_model_only(
    settings: Settings, ckpt_name: _Checkpoint, strength_model: _Strength = 1.0, prev_hooks: Hooks | None = None
) -> Hooks:
    """The same for the model alone."""
    return _with_checkpoint(settings, ckpt_name, strength_model, 0.0, prev_hooks)


@node("CreateHookKeyframe", category="advanced/hooks/scheduling", display_name="Create Hook Keyframe", version="1")
def create_hook_keyframe(
    strength_mult: _Strength = 1.0, start_percent: _Time = 0.0, prev_hook_kf: HookKeyframes | None = None
) -> Keyframes:
    """From a share of the sampling on, the strength of a hook is times `strength_mult`, for one step at least."""
    return _sorted(prev_hook_kf, [Keyframe(strength_mult, start_percent)])


@node(
    "CreateHookKeyframesInterpolated",
    category="advanced/hooks/scheduling",
    display_name="Create Hook Keyframes Interp.",
    version="1",
)
def create_hook_keyframes_interpolated(
    context: Context,
    strength_start: _Factor = 1.0,
    strength_end: _Factor = 1.0,
    interpolation: Annotated[str, Choice(_CURVES)] = "linear",
    start_percent: _Time = 0.0,
    end_percent: _Time = 1.0,
    keyframes_count: Annotated[int, Range(2, 100, 1)] = 5,
    print_keyframes: _Logged = False,
    prev_hook_kf: HookKeyframes | None = None,
) -> Keyframes:
    """Keyframes at equal distances, their strengths along a curve."""
    from math import cos, pi

    curves: dict[str, Callable[[float], float]] = {
        "linear": lambda t: t,
        "ease_in": lambda t: t * t,
        "ease_out": lambda t: 1 - (1 - t) ** 2,
        "ease_in_out": lambda t: (1 - cos(pi * t)) / 2,
    }
    shares = [curves[interpolation](number / (keyframes_count - 1)) for number in range(keyframes_count)]
    factors = [strength_start + (strength_end - strength_start) * share for share in shares]
    made = _spaced(factors, start_percent, end_percent)
    _log(context, made, print_keyframes)
    return _sorted(prev_hook_kf, made)


@node(
    "CreateHookKeyframesFromFloats",
    category="advanced/hooks/scheduling",
    display_name="Create Hook Keyframes From Floats",
    version="1",
)
def create_hook_keyframes_from_floats(
    context: Context,
    floats_strength: Floats,
    start_percent: _Time = 0.0,
    end_percent: _Time = 1.0,
    print_keyframes: _Logged = False,
    prev_hook_kf: HookKeyframes | None = None,
) -> Keyframes:
    """Keyframes at equal distances with given strengths: a number, or a list of numbers."""
    values = floats_strength if isinstance(floats_strength, list | tuple) else [floats_strength]
    if not values or not all(isinstance(value, int | float) for value in values):
        raise GraphFlowError(
            [
                Problem(
                    "not_numbers",
                    f"expected a number or a list of numbers, got {type(floats_strength).__name__}",
                    input="floats_strength",
                    hint="link a node that makes a list of strengths",
                )
            ]
        )
    made = _spaced([float(value) for value in values], start_percent, end_percent)
    _log(context, made, print_keyframes)
    return _sorted(prev_hook_kf, made)


@node("SetHookKeyframes", category="advanced/hooks/scheduling", display_name="Set Hook Keyframes", version="1")
def set_hook_keyframes(hooks: Hooks, hook_kf: HookKeyframes | None = None) -> Hooks:
    """Give all hooks of a set these keyframes, in place of their own."""
    return hooks if hook_kf is None else [replace(hook, keyframes=tuple(hook_kf)) for hook in hooks]


@node("CombineHooks2", category="advanced/hooks/combine", display_name="Combine Hooks [2]", version="1")
def combine_hooks_2(hooks_A: Hooks | None = None, hooks_B: Hooks | None = None) -> Hooks:
    """All hooks of several sets, each once."""
    return _combined(hooks_A, hooks_B)


@node("CombineHooks4", category="advanced/hooks/combine", display_name="Combine Hooks [4]", version="1")
def combine_hooks_4(
    hooks_A: Hooks | None = None,
    hooks_B: Hooks | None = None,
    hooks_C: Hooks | None = None,
    hooks_D: Hooks | None = None,
) -> Hooks:
    """The same for up to four."""
    return _combined(hooks_A, hooks_B, hooks_C, hooks_D)


@node("CombineHooks8", category="advanced/hooks/combine", display_name="Combine Hooks [8]", version="1")
def combine_hooks_8(
    hooks_A: Hooks | None = None,
    hooks_B: Hooks | None = None,
    hooks_C: Hooks | None = None,
    hooks_D: Hooks | None = None,
    hooks_E: Hooks | None = None,
    hooks_F: Hooks | None = None,
    hooks_G: Hooks | None = None,
    hooks_H: Hooks | None = None,
) -> Hooks:
    """The same for up to eight."""
    return _combined(hooks_A, hooks_B, hooks_C, hooks_D, hooks_E, hooks_F, hooks_G, hooks_H)


@node("SetClipHooks", category="advanced/hooks/clip", display_name="Set CLIP Hooks", version="1")
def set_clip_hooks(
    clip: ClipWire,
    apply_to_conds: Annotated[bool, Help("what is encoded carries the hooks to the model, too")] = True,
    schedule_clip: Annotated[bool, Help("encode a prompt once for each range of the keyframes")] = False,
    hooks: Hooks | None = None,
) -> ClipWire:
    """Encode prompts under hooks: with the strength for text encoders that each states."""
    return clip.with_patch(CarriedHooks(tuple(hooks), apply_to_conds, schedule_clip)) if hooks else clip


def _with_lora(settings: Settings, name: str, for_model: float, for_clip: float, before: Any) -> list[Hook]:
    from ..patches.hooks import LoraHook
    from ..patches.lora import LoraFile

    if for_model == 0.0 and for_clip == 0.0:
        return list(before or ())
    path = folders(settings).find("loras", name)
    file = LoraFile(str(path), settings.digests.of(path))
    return _combined(before, [LoraHook(file, for_model, for_clip)])


def _with_checkpoint(settings: Settings, name: str, for_model: float, for_clip: float, before: Any) -> list[Hook]:
    from ..families.opened import open_model
    from ..patches.hooks import CheckpointHook

    if for_model == 0.0 and for_clip == 0.0:
        return list(before or ())
    opened = open_model(folders(settings).find("checkpoints", name), settings)
    return _combined(before, [CheckpointHook(opened.model, opened.clip, for_model, for_clip)])


def _combined(*sets: Sequence[Hook] | None) -> list[Hook]:
    return list({hook: None for hooks in sets for hook in hooks or ()})


def _spaced(factors: Sequence[float], start: float, end: float) -> list[Keyframe]:
    """The first counts for one step at least."""
    last = max(len(factors) - 1, 1)
    return [
        Keyframe(factor, start + (end - start) * number / last, guaranteed=int(number == 0))
        for number, factor in enumerate(factors)
    ]


def _sorted(before: Any, added: Sequence[Keyframe]) -> Keyframes:
    """Of two keyframes with one begin the later one stands last, and so counts."""
    return Keyframes(tuple(sorted((*(before or ()), *added), key=lambda keyframe: keyframe.start)))


def _log(context: Context, keyframes: Sequence[Keyframe], asked: bool) -> None:
    if asked:
        for keyframe in keyframes:
            context.say(f"from {keyframe.start:.3f} on: strength times {keyframe.factor:.3f}")
