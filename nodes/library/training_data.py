"""Data sets for training: a folder of images with captions becomes latents and embeddings, each in a cached node call
of its own. One image changed is one encoding; another VAE or another size computes what it touches."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any

from graphflow import (
    Choice,
    Conditioning,
    Expansion,
    GraphFlowError,
    Grow,
    Help,
    Image,
    Latent,
    Link,
    Mask,
    Problem,
    Range,
    Settings,
    Wire,
    node,
)

from ..devices.environment import decoding
from ..files.image_folders import broken_images, empty_folder, folder_names, images_in
from ..files.user_files import input_digest
from ..model.wires import ClipWire, VaeWire
from ..training.captions import SOURCES, Captioned, captioned

TrainingSetWire = Annotated[dict[str, Any], Wire("TRAINING_SET")]
_Resolution = Annotated[int, Range(16, 4096, 8), Help("side of the square whose area each image gets, in pixels")]
_Step = Annotated[int, Range(8, 512, 8), Help("sides of buckets are multiples of so many pixels")]
_Longest = Annotated[float, Range(1.0, 8.0, 0.1), Help("the most that a side may be longer than the other; 1: squares")]
_Repeats = Annotated[int, Range(1, 10000), Help("how often an epoch shows each image")]
_Side = Annotated[int, Range(0, 1 << 20)]
HINTS = ("none", "canny", "folder")
MASKS = ("none", "alpha", "folder")
LINES = ("one caption", "each")
TOGETHER = 50
"""Sets that one node joins."""


def _image_outside(settings: Settings, image: str, **_: Any) -> str:
    return input_digest(settings, image)


@node(
    "TrainingImage",
    category="training/data",
    display_name="Training Image",
    version="1",
    outside=_image_outside,
    environment=decoding,
)
def training_image(
    settings: Settings,
    image: Annotated[str, Help("name in the input folder")],
    resolution: _Resolution = 512,
    bucket_step: _Step = 64,
    longest: _Longest = 2.0,
    mirror: bool = False,
) -> Image:
    """Read an image and cut it evenly to the bucket whose proportions are nearest to its own.

    A bucket has about as many pixels as the square of `resolution`. Of an animation, the first frame is taken.
    """
    import torch

    from ..training.buckets import bucket_of, cropped
    from .images import input_frames

    (frame,) = input_frames(settings, image, most=1)
    pixels = torch.from_numpy(frame.colours)[None]
    _, height, width, _ = pixels.shape
    found = cropped(pixels, bucket_of(width, height, resolution, bucket_step, longest))
    return found.flip(2).contiguous() if mirror else found


@node(
    "TrainingMask",
    category="training/data",
    display_name="Training Mask",
    version="1",
    outside=_image_outside,
    environment=decoding,
)
def training_mask(
    settings: Settings,
    image: Annotated[str, Help("name in the input folder")],
    source: Annotated[str, Choice(("brightness", "alpha")), Help("white counts, or what is opaque")] = "brightness",
    resolution: _Resolution = 512,
    bucket_step: _Step = 64,
    longest: _Longest = 2.0,
    mirror: bool = False,
) -> Mask:
    """Read what of an image is learnt, cut as TrainingImage cuts the image: [1, H, W], 1 where it counts.

    Raises a Problem where an image without transparency is asked for its alpha.
    """
    import torch

    from ..training.buckets import bucket_of, cropped
    from .images import input_frames

    (frame,) = input_frames(settings, image, most=1)
    if source == "alpha" and frame.opacity is None:
        message = f"{image} has no transparency, so it does not state what of it is learnt"
        raise GraphFlowError([Problem("no_alpha", message, input="image", hint="set masks to none, or to folder")])
    found = frame.opacity if source == "alpha" else frame.colours.mean(-1)
    counts = torch.from_numpy(found).float()[None, ..., None]
    _, height, width, _ = counts.shape
    counts = cropped(counts, bucket_of(width, height, resolution, bucket_step, longest))[..., 0]
    return counts.flip(2).contiguous() if mirror else counts


@node("TrainingExample", category="training/data", display_name="Training Example", version="2")
def training_example(
    samples: Latent,
    conditioning: Annotated[Conditioning | None, Help("not needed where the text encoder learns")] = None,
    name: Annotated[str, Help("what messages call it, and what its noise is drawn by")] = "example",
    repeats: _Repeats = 1,
    caption: Annotated[str, Help("the prompt of the conditioning: for training a text encoder")] = "",
    hint: Annotated[Image | None, Help("an image that steers: for training a ControlNet")] = None,
    mask: Annotated[Mask | None, Help("what of the image is learnt: 1 counts, 0 does not")] = None,
    width: Annotated[_Side, Help("of the image before it was cut; 0: not stated")] = 0,
    height: _Side = 0,
    crop_w: Annotated[_Side, Help("pixels of the resized image that were cut off on the left")] = 0,
    crop_h: Annotated[_Side, Help("the same at the top")] = 0,
    hint_latent: Annotated[Latent | None, Help("the hint's: for a ControlNet of a transformer")] = None,
) -> TrainingSetWire:
    """A data set of one latent and its conditioning, or of its caption alone for a trainer with a text encoder.

    SDXL learns how an image was cut: `width` and `height` are those of the file, `crop_w` and `crop_h` where the cut
    begins, in pixels of the size that is trained.
    """
    from ..training.examples import example

    sizes = {"width": width, "height": height, "crop_w": crop_w, "crop_h": crop_h} if width and height else None
    seen = hint[0, ..., :3].clone() if hint is not None else None
    counts = mask[0].clone() if mask is not None else None
    more = {"hint": seen, "hint_latent": hint_latent, "sizes": sizes, "mask": counts}
    found = example(samples, conditioning, name, repeats, caption=caption or None, **more)
    return {"examples": [found], "empty": None}


@node("JoinTrainingSets", category="training/data", display_name="Join Training Sets", version="1")
def join_training_sets(
    sets: Annotated[dict[str, Any], Grow(TrainingSetWire, prefix="set", min=1, max=TOGETHER, optional=True)],
    empty: Annotated[Conditioning | None, Help("the conditioning of no caption, for caption_dropout")] = None,
) -> TrainingSetWire:
    """Several data sets as one: folders, or one folder in several resolutions. Names that occur twice get a number."""
    from ..training.examples import joined

    return joined([one for one in sets.values() if one is not None], empty)


def _folder_reads(
    settings: Settings,
    folder: str,
    captions: str = "auto",
    column: str = "text",
    trigger: str = "",
    hints: str = "none",
    hints_folder: str = "",
    masks: str = "none",
    masks_folder: str = "",
    caption_lines: str = LINES[0],
    **_: Any,
) -> dict[str, dict[str, str]]:
    """The images, and of each the digests of its captions and of the images that are its hint and its mask."""
    found: dict[str, dict[str, str]] = {}
    for item in _captions_in(settings, folder, captions, column, trigger, caption_lines):
        if item.name not in found:
            found[item.name] = {"": _content(settings, item.name), "caption": ""}
        parts = found[item.name]
        parts["caption"] = _digest(f"{parts['caption']}\n{item.caption}")
    for part, source, other in (("hint", hints, hints_folder), ("mask", masks, masks_folder)):
        partners = _partners(settings, list(found), f"{part}s_folder", other if source == "folder" else None)
        for name, partner in partners.items():
            found[name][part] = _digest(f"{partner}\n{_content(settings, partner)}")
    return found


def _content(settings: Settings, name: str) -> str:
    """The digest of a file that a folder lists, so it is known to lie inside: thousands are asked for."""
    try:
        return settings.digests.of(settings.input_dir / name)
    except OSError as error:
        raise GraphFlowError([Problem("no_file", f"{name} cannot be read: {error.strerror}")]) from None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _check_folder(
    settings: Settings, literals: Mapping[str, Any], _: Mapping[str, str]
) -> Iterator[tuple[str | None, str]]:
    wanted = {"folder": "", "captions": "auto", "column": "text", "trigger": "", "caption_lines": LINES[0]}
    stated = {name: literals.get(name, default) for name, default in wanted.items()}
    if not stated["folder"] or not all(isinstance(value, str) for value in stated.values()):
        return
    try:
        _captions_in(settings, **stated)
    except GraphFlowError as error:
        for problem in error.problems:
            yield problem.input, problem.message + (f" ({problem.hint})" if problem.hint else "")
    for problem in _unusable(settings, stated["folder"], literals):
        yield problem.input, problem.message + (f" ({problem.hint})" if problem.hint else "")


def _unusable(settings: Settings, folder: str, literals: Mapping[str, Any]) -> list[Problem]:
    """Images of the folder, or of those with hints and masks, that cannot be read, and images without a partner."""
    names = images_in(settings, folder)
    found = broken_images(settings, names)
    for kind in ("hints", "masks"):
        other = literals.get(f"{kind}_folder")
        if literals.get(kind) == "folder" and isinstance(other, str):
            try:
                partners = _partners(settings, names, f"{kind}_folder", other)
            except GraphFlowError as error:
                found += error.problems
            else:
                found += broken_images(settings, partners.values(), f"{kind}_folder")
    return found


@node(
    "TrainingFolder",
    category="training/data",
    display_name="Training Folder",
    version="1",
    reads=_folder_reads,
    check=_check_folder,
)
def training_folder(
    settings: Settings,
    vae: VaeWire,
    folder: Annotated[str, Choice(folder_names, "input", empty_folder)],
    resolution: _Resolution = 512,
    bucket_step: _Step = 64,
    longest: _Longest = 2.0,
    captions: Annotated[str, Choice(SOURCES), Help("NAME.txt beside an image, a table, or none: the trigger alone")] = (
        "auto"
    ),
    column: Annotated[str, Help("of a table: where the captions stand")] = "text",
    trigger: Annotated[str, Help("words that come before each caption")] = "",
    mirror: Annotated[bool, Help("show each image mirrored, too")] = False,
    repeats: _Repeats = 1,
    hints: Annotated[str, Choice(HINTS), Help("images that steer, for a ControlNet: edges, or those of a folder")] = (
        "none"
    ),
    hints_folder: Annotated[str, Help("in the input folder: an image of the same name for each")] = "",
    masks: Annotated[
        str, Choice(MASKS), Help("what of an image is learnt: all, what is opaque, or what a mask shows")
    ] = ("none"),
    masks_folder: Annotated[str, Help("in the input folder: a mask of the same name for each, white counts")] = "",
    clip: Annotated[
        ClipWire | None, Help("encodes the captions; not needed where the trainer has it, as its text encoder learns")
    ] = None,
    caption_lines: Annotated[
        str, Choice(LINES), Help("each: every line of a caption file is a caption, shown as often as the others")
    ] = LINES[0],
    encode_hints: Annotated[bool, Help("for a ControlNet of a transformer, which sees the latent of a hint")] = False,
) -> Expansion[TrainingSetWire]:
    """A folder of images with captions as a data set: cut to aspect buckets, encoded by the VAE and the text encoder.

    Captions are `NAME.txt` beside `NAME.png`, `metadata.jsonl` (lines with `file_name` and the column), or
    `metadata.csv`; all in UTF-8. Each image is cut, encoded and captioned by node calls of its own, which are cached:
    a changed image, caption, VAE or size computes what depends on it, and no more. A list in the column of
    `metadata.jsonl` is several captions, too.
    """
    captions_of: dict[str, list[str]] = {}
    for item in _captions_in(settings, folder, captions, column, trigger, caption_lines):
        captions_of.setdefault(item.name, []).append(_plain(item.caption))
    names = list(captions_of)
    if broken := broken_images(settings, names):
        raise GraphFlowError(broken)
    steering = _partners(settings, names, "hints_folder", hints_folder if hints == "folder" else None)
    masked = _partners(settings, names, "masks_folder", masks_folder if masks == "folder" else None)
    nodes: dict[str, Any] = {"text": _node("CLIPTextEncode", text="", clip=clip)} if clip is not None else {}
    sets: list[str] = []
    for number, name in enumerate(names):
        for at, caption in enumerate(captions_of[name] if clip is not None else ()):
            nodes[_of(f"text{number}", at)] = _node("CLIPTextEncode", text=caption, clip=clip)
        for mirrored in (False, True) if mirror else (False,):
            key = f"{number}{'m' if mirrored else ''}"
            sizes = {"resolution": resolution, "bucket_step": bucket_step, "longest": longest}
            nodes[f"image{key}"] = _node("TrainingImage", image=name, **sizes, mirror=mirrored)
            more = _hint_nodes(nodes, key, steering.get(name), hints, {**sizes, "mirror": mirrored})
            if encode_hints and "hint" in more:
                nodes[f"seen{key}"] = _node("VAEEncode", pixels=more["hint"], vae=vae)
                more["hint_latent"] = [f"seen{key}", 0]
            more |= _mask_nodes(nodes, key, name, masked.get(name), masks, {**sizes, "mirror": mirrored})
            more |= _cut_of(settings, name, resolution, bucket_step, longest)
            nodes[f"latent{key}"] = _node("VAEEncode", pixels=[f"image{key}", 0], vae=vae)
            for at, caption in enumerate(captions_of[name]):
                nodes[_of(f"set{key}", at)] = _node(
                    "TrainingExample",
                    samples=[f"latent{key}", 0],
                    **({"conditioning": [_of(f"text{number}", at), 0]} if clip is not None else {}),
                    name=name + (" mirrored" if mirrored else "") + (f", caption {at + 1}" if at else ""),
                    repeats=repeats,
                    caption=caption,
                    **more,
                )
                sets.append(_of(f"set{key}", at))
    while len(sets) > TOGETHER:
        groups = [sets[at : at + TOGETHER] for at in range(0, len(sets), TOGETHER)]
        sets = [_join(nodes, group) for group in groups]
    nodes["all"] = _node("JoinTrainingSets", **_links(sets), **({"empty": ["text", 0]} if clip is not None else {}))
    return Expansion(nodes, (Link("all", 0),))


def _captions_in(
    settings: Settings, folder: str, captions: str, column: str, trigger: str, caption_lines: str
) -> list[Captioned]:
    return captioned(settings, folder, captions, column, trigger, several=caption_lines == LINES[1])


def _of(key: str, at: int) -> str:
    """The node of an image's caption: the first one has no number."""
    return f"{key} {at}" if at else key


def _hint_nodes(
    nodes: dict[str, Any], key: str, steering: str | None, hints: str, cut: Mapping[str, Any]
) -> dict[str, Any]:
    """The node that makes the hint of an image, and the link to it."""
    if hints == "canny":
        nodes[f"hint{key}"] = _node("Canny", image=[f"image{key}", 0])
    elif steering is not None:
        nodes[f"hint{key}"] = _node("TrainingImage", image=steering, **cut)
    return {"hint": [f"hint{key}", 0]} if hints != "none" else {}


def _mask_nodes(
    nodes: dict[str, Any], key: str, name: str, mask: str | None, masks: str, cut: Mapping[str, Any]
) -> dict[str, Any]:
    """The node that reads what of an image is learnt, and the link to it."""
    if masks == "none":
        return {}
    source = {"image": name, "source": "alpha"} if mask is None else {"image": mask, "source": "brightness"}
    nodes[f"mask{key}"] = _node("TrainingMask", **source, **cut)
    return {"mask": [f"mask{key}", 0]}


def _partners(settings: Settings, names: list[str], input: str, folder: str | None) -> dict[str, str]:
    """Image -> the image of another folder that has its name, with any ending; nothing where no folder is asked for."""
    if folder is None:
        return {}
    there = {PurePosixPath(name).stem: name for name in images_in(settings, folder)}
    missing = [name for name in names if PurePosixPath(name).stem not in there]
    if missing:
        message = f"{folder!r} has no image for {len(missing)} of {len(names)} images, {missing[0]} for one"
        raise GraphFlowError([Problem(f"missing_{input.partition('_')[0]}", message, input=input)])
    return {name: there[PurePosixPath(name).stem] for name in names}


def _cut_of(settings: Settings, name: str, resolution: int, bucket_step: int, longest: float) -> dict[str, int]:
    """The size of an image, and where in it the cut begins when it is resized to its bucket."""
    from ..files.read_image import image_size
    from ..training.buckets import bucket_of

    width, height = image_size(settings.input_dir / name, name)
    across, down = bucket_of(width, height, resolution, bucket_step, longest)
    scale = max(across / width, down / height)
    left, top = (int((side * scale - cut) / 2 + 0.5) for side, cut in ((width, across), (height, down)))
    return {"width": width, "height": height, "crop_w": left, "crop_h": top}


def _join(nodes: dict[str, Any], group: list[str]) -> str:
    key = f"join {group[0]}"
    nodes[key] = _node("JoinTrainingSets", **_links(group))
    return key


def _links(sets: list[str]) -> dict[str, Any]:
    return {f"sets.set{number}": [key, 0] for number, key in enumerate(sets)}


def _node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def _plain(caption: str) -> str:
    """A caption as a prompt: its brackets weigh nothing."""
    return caption.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")
