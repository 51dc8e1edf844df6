"""Before a run: whether the models of a graph belong together, from the headers of their files.

The text encoders of a prompt and the model that it leads, the VAE and the latents, a ControlNet or a LoRA and the model
that it changes, reference images and a model that sees none; and whether all of it fits into the machine. What is wrong
here would stop the run at the sampler, after the text encoders have been loaded; here it is found before anything is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, cast

from graphflow import GraphFlowError, Problem, Settings
from graphflow.spi import Bound

from ..files.folders import ModelFolders
from ..model.handles import Clip, ClipVision, ControlNet, Model
from ..model.latent import LatentFormat
from ..patches.lora import LoraFile, check_fits, parts_of
from ..patches.lora_keys import fit
from .check_embeddings import embedding_problems
from .cost import cost_of
from .foreseen import Foreseen, ForeseenLatent, ForeseenPrompt, concerned, file_of, foresee
from .kits.speech import head_of, speaker_of
from .photomaker import misfit, place_of_trigger
from .prompt_lengths import long_prompts
from .prompt_weights import weights_without_effect

__all__ = ["check_graph"]

OF_CLIP = frozenset({"clip_l", "clip_g", "text_l", "text_g"})
OF_ONE = {"t5xxl": "t5", "llama": "llama"}
"""Inputs of prompts for CLIP alone, and for one other text encoder."""
TEXT_WRITERS = frozenset({"TextGenerate", "TextGenerateLTX2Prompt"})


def check_graph(order: Mapping[str, Bound], settings: Settings) -> tuple[list[Problem], list[Problem]]:
    """(problems, warnings) of the bound nodes of a graph, in topological order."""
    problems, warnings = list[Problem](), list[Problem]()
    whole, order = order, concerned(order)
    found = foresee(order, settings)
    for node_id, node in order.items():
        judged = [(node_id, *each) for each in _judged(found, node, settings)]
        for place, problem, stops in (*judged, *_hooks(found, node, order, settings)):
            title = order[place].type.display_name
            placed = Problem(problem.code, problem.message, place, title, problem.input, problem.hint)
            if placed not in (known := problems if stops else warnings):
                known.append(placed)
    if not problems:
        problems += cost_of(whole, settings, found).problems  # the sizes of images stand in other nodes, too
    return problems, warnings


def _judged(found: Foreseen, node: Bound, settings: Settings) -> Iterator[tuple[Problem, bool]]:
    """Problems of one node, and whether each stops the run."""
    for name, message in found.lacking(node):
        yield Problem("no_such_part", message, input=name), True
    model = found.model_of(node)
    if model is not None:
        for name, prompt in found.inputs(node, "CONDITIONING"):
            if prompt is not None and not _is_not_asked(node, name):
                yield from _prompt(model, prompt, name)
        for name, latent in found.inputs(node, "LATENT"):
            if latent is not None:
                yield from _latent(latent, ForeseenLatent(model.latent, file_of(model)), name)
        if isinstance(lora := node.literals.get("lora_name"), str):
            yield from _lora(settings, lora, model)
    clip = found.only(node, "CLIP")
    if clip is not None:
        yield from ((problem, True) for problem in embedding_problems(clip, node, settings))
    vae = found.only(node, "VAE")
    if vae is not None:
        for name, latent in found.inputs(node, "LATENT"):
            if latent is not None:
                yield from _latent(latent, ForeseenLatent(vae.latent, file_of(vae)), name, "the VAE ")
    clip = found.only(node, "CLIP")
    if clip is not None and any(output.type == "CONDITIONING" for output in node.type.outputs):
        for name, words in node.literals.items():
            if isinstance(words, str) and name in node.inputs and node.inputs[name].type == "STRING":
                yield from _length(clip, words, name)
                yield from _weights(clip, words, name)
    photomaker = found.only(node, "PHOTOMAKER")
    if photomaker is not None and clip is not None and place_of_trigger(str(node.literals.get("text", ""))) is not None:
        problem = misfit(photomaker, clip)
        yield from [(problem, True)] if problem is not None else []
    if node.type.name in TEXT_WRITERS:
        yield from _writer(found.only(node, "CLIP"))


def _is_not_asked(node: Bound, name: str) -> bool:
    """Without guidance no sampler asks the negative."""
    return name == "negative" and node.literals.get("cfg") == 1.0


def _prompt(model: Model, prompt: ForeseenPrompt, input: str) -> Iterator[tuple[Problem, bool]]:
    for clip in prompt.clips:
        yield from _encoders(model, clip, input)
    if prompt.vision is not None:
        yield from _image_encoder(model, prompt.vision, input)
    for control in prompt.controls:
        yield from _control(model, control, input)
    if prompt.has_references and model.family.takes and "references" not in model.family.takes:
        yield (
            Problem(
                "no_references",
                f"{model.family.title} ({file_of(model)}) sees no reference images, and the conditioning has some",
                input=input,
                hint="use a model for editing (FLUX.1 Kontext, FLUX.2, Qwen-Image-Edit), or start from the image: "
                "VAEEncode it into latent_image with a denoise below 1",
            ),
            True,
        )


def _encoders(model: Model, clip: Clip, input: str) -> Iterator[tuple[Problem, bool]]:
    """Whether text encoders are those of a model: their kinds, then the width of what they give, then the template."""
    names = tuple(sorted(part.removeprefix("text.") for part, _ in clip.sources if part.startswith("text.")))
    wanted = [set_ for sets in model.family.prompts.values() for set_ in sets]
    option = model.family.takes.get("text")
    takes = option.width(model.config) if option is not None and option.width is not None else None
    gives = clip.family.text_width(clip.config)
    if not wanted and model.family.takes and not model.family.text:
        yield (
            Problem(
                "no_text_taken",
                f"{model.family.title} ({file_of(model)}) is asked with an image alone, and the conditioning is a text "
                f"that {file_of(clip)} encodes",
                input=input,
                hint="link a node that encodes an image for it (SVD_img2vid_Conditioning)",
            ),
            True,
        )
    if not wanted:
        return
    if names not in wanted:
        yield (
            Problem(
                "wrong_encoder",
                f"the prompt is encoded by {_kinds(clip, names)} of {file_of(clip)}{_wide(gives)}, but "
                f"{model.family.title} ({file_of(model)}) takes {_kinds(model, wanted[0])}{_wide(takes)}",
                input=input,
                hint=f"load the text encoders of {model.family.title}: "
                + (model.family.text_loader or _loader(len(wanted[0]))),
            ),
            True,
        )
    elif gives is not None and takes is not None and gives != takes:
        yield (
            Problem(
                "wrong_encoder",
                f"{file_of(clip)} encodes prompts of {clip.family.title} {gives} wide, but {model.family.title} "
                f"({file_of(model)}) takes {takes}",
                input=input,
                hint=_other_type(model, clip) or "load the size of this text encoder that belongs to the model",
            ),
            True,
        )
    elif clip.family is not model.family:
        hint = _other_type(model, clip)
        if hint:
            yield (
                Problem(
                    "other_type",
                    f"the prompt is put into words as for {clip.family.title}, and leads {model.family.title} "
                    f"({file_of(model)})",
                    input=input,
                    hint=hint,
                ),
                False,
            )


def _image_encoder(model: Model, vision: ClipVision, input: str) -> Iterator[tuple[Problem, bool]]:
    """Whether what an image encoder gives in place of a text is as wide as a model takes."""
    option = model.family.takes.get("text")
    takes = option.width(model.config) if option is not None and option.width is not None else None
    gives = vision.config.get("projection_dim") or vision.config.get("hidden_size")
    if model.family.text:
        yield (
            Problem(
                "no_image_taken",
                f"{model.family.title} ({file_of(model)}) is asked with a text, and the conditioning is an image that "
                f"{file_of(vision)} encodes",
                input=input,
                hint="load Stable Video Diffusion with ImageOnlyCheckpointLoader, or encode a prompt",
            ),
            True,
        )
    elif takes is not None and gives is not None and takes != gives:
        yield (
            Problem(
                "wrong_encoder",
                f"{file_of(vision)} gives {gives} numbers of an image, but {model.family.title} ({file_of(model)}) "
                f"takes {takes}",
                input=input,
                hint="load the image encoder of the model's own checkpoint (ImageOnlyCheckpointLoader)",
            ),
            True,
        )


def _kinds(handle: Any, names: tuple[str, ...]) -> str:
    parts = handle.family.parts
    titles = (parts[f"text.{name}"].title if f"text.{name}" in parts else name for name in names)
    return " and ".join(title.removeprefix("text encoder ") for title in titles)


def _wide(width: int | None) -> str:
    return f" ({width} wide)" if width is not None else ""


def _loader(count: int) -> str:
    return {1: "CLIPLoader", 2: "DualCLIPLoader", 3: "TripleCLIPLoader"}.get(count, "QuadrupleCLIPLoader")


def _other_type(model: Model, clip: Clip) -> str:
    """What to set where the loader's `type` chose another family; empty where it is not that."""
    if clip.family is model.family:
        return ""
    named = next((type for type in model.family.prompts if type), None)
    return f"set the loader's type to {named or 'one that no other family has (stable_diffusion)'}"


def _length(clip: Clip, words: str, input: str) -> Iterator[tuple[Problem, bool]]:
    """Whether a prompt is longer than its encoders take. Without a tokenizer the run reports that one is missing."""
    if input in OF_CLIP:
        return
    try:
        for problem, stops in long_prompts(clip, words, OF_ONE.get(input, "")):
            yield replace(problem, input=input), stops
    except GraphFlowError:
        return


def _weights(clip: Clip, words: str, input: str) -> Iterator[tuple[Problem, bool]]:
    """Whether a prompt states weights that its encoders do not read."""
    if input not in OF_CLIP:
        for problem in weights_without_effect(clip, words, OF_ONE.get(input, "")):
            yield replace(problem, input=input), False


def _control(model: Model, control: ControlNet, input: str) -> Iterator[tuple[Problem, bool]]:
    why = control.family.misfit(control.config, model)
    if why:
        hint = f"use a control network that was made for {model.family.title}"
        yield Problem("wrong_control", f"{file_of(control)}: {why}", input=input, hint=hint), True


def _latent(
    latent: ForeseenLatent, taker: ForeseenLatent, input: str, what: str = ""
) -> Iterator[tuple[Problem, bool]]:
    have, want = latent.format, taker.format
    if (have.channels, have.axes) != (want.channels, want.axes):
        yield (
            Problem(
                "wrong_latent",
                f"the latent of {latent.maker} has {_format(have)}, {what}{taker.maker} takes {_format(want)}",
                input=input,
                hint="decode a latent with the VAE of the model that made it, and encode images with that of the model "
                "that they go to",
            ),
            True,
        )


def _format(latent: LatentFormat) -> str:
    return f"{latent.channels} channels{' and an axis of frames' if latent.axes == 3 else ''}"


def _lora(settings: Settings, name: str, model: Model) -> Iterator[tuple[Problem, bool]]:
    total = 0
    try:
        path = ModelFolders(list(settings.models), settings.pickles).find("loras", name)
        stat = path.stat()
        found = fit(str(path), f"{stat.st_mtime_ns} {stat.st_size}", model.family, model.config, parts_of(model))
        total = found.total
        check_fits(LoraFile(str(path), ""), found, model.family, "lora_name")
    except GraphFlowError as error:
        # What cannot be read is reported by the node's own check; a file for text encoders alone is not judged here.
        yield from ((problem, True) for problem in error.problems if total)
    except OSError:
        return


def _hooks(
    found: Foreseen, node: Bound, order: Mapping[str, Bound], settings: Settings
) -> Iterator[tuple[str, Problem, bool]]:
    """(the node that made the hook, problem, whether it stops the run) of the LoRAs that a sampler's conditionings
    carry."""
    model = found.model_of(node)
    for maker in found.hooks_of(node) if model is not None else ():
        for problem, stops in _lora(settings, order[maker].literals["lora_name"], cast(Model, model)):
            yield maker, problem, stops


def _writer(clip: Clip | None) -> Iterator[tuple[Problem, bool]]:
    if clip is not None:
        try:
            speaker_of(clip)
            head_of(clip)
        except GraphFlowError as error:
            yield from ((problem, True) for problem in error.problems)
