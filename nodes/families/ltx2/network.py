r"""The transformer of LTX-2 at work: how it is built, and how it is asked about rows (see model/family.py).

A token of a video is one cell of its latent, with the middle of its pixels as position; a token of a sound is one frame
of its latent, with the middle of its time. A guide that is n times smaller than the video has its own positions times n
(diffusers' LTX2InContextPipeline). Where a noise mask m keeps parts, they are shown without noise and their
time is :math:`1000 \, \sigma m`; what the streams see of each other has that of the level, :math:`1000 \, \sigma`.

A reference sound (ID-LoRA, arXiv 2603.10256) stands before the sound that is made: clean, with the time 0, and with
negative positions, so that it ends one frame before the sound begins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import LTX2VideoTransformer3DModel
from torch import Tensor

from graphflow import GraphFlowError, Problem

from ...model.config import Config
from ...model.entry import Ask, Entry
from ...model.pair import Pair
from ...model.row import Row
from ..kits.empty import EmptyParameters
from ..kits.ltx_vae import SPACE, TIME
from ..kits.unet_network import plain
from ..ltx import FRAME_RATE
from ..ltx.network import Guides, cells_of, guides_of, positions, tokens_of
from ..ltx2_audio import CELL, FRAMES_A_SECOND
from . import REFERENCE

__all__ = ["PreparedLTX2", "back", "build", "forward", "prepare", "row"]


def build(config: Config) -> LTX2VideoTransformer3DModel:
    """An empty transformer, from the arguments of its class."""
    kind: Any = LTX2VideoTransformer3DModel
    with EmptyParameters():
        module: LTX2VideoTransformer3DModel = kind(**plain(config))
    return module


@dataclass(frozen=True, eq=False)
class PreparedLTX2:
    """The values that are the same for all questions about an entry and a latent of one shape."""

    text: Tensor
    """[T, D], of the stream of videos."""
    audio_text: Tensor
    places: Tensor
    """[3, tokens, 2]: where each cell begins and ends, in seconds, rows and columns."""
    shown: Tensor | None = None
    """[tokens]: numbers of the cells that are tokens; None: all."""
    reference: Tensor | None = None
    """[c, frames, bins]: a sound before the one that is made."""
    audio_places: Tensor | None = None
    """[1, frames, 2]: where each frame of both begins and ends, in seconds; None: without a reference."""


def prepare(config: Config, entry: Entry, shape: tuple[int, ...]) -> PreparedLTX2:
    assert entry.text is not None, "checked before the run: the family needs a text"
    pair = entry.pair
    if pair is not None and (shape != pair.shape or entry.mask is not None):
        raise GraphFlowError(
            [
                Problem(
                    "not_for_sound",
                    "areas, masks of conditionings and samplers that enlarge a latent do not know a video with sound",
                    hint="leave them out, or sample the video alone (LTXVSeparateAVLatent)",
                )
            ]
        )
    _, frames, height, width = shape if pair is None else pair.video
    guides, shown = guides_of(entry, frames, height, width), None
    count = 0 if guides is None else len(guides.sides) // (height * width)
    first = positions(frames - count, height, width, is_causal=True)
    last = first + torch.tensor([TIME, SPACE, SPACE], dtype=torch.float32)[:, None]
    last[0, : height * width] = 1.0  # the first latent frame is one frame
    if guides is not None:
        shown = guides.shown(first.shape[1])
        first = torch.cat([first, guides.places], dim=1)
        last = torch.cat([last, _ends(guides, height * width)], dim=1)
    places = torch.stack([first, last], dim=-1)
    places[0] /= float(entry.extra.get("frame_rate", FRAME_RATE))
    reference = entry.extra.get(REFERENCE)
    heard = None if reference is None else _reference(reference, pair)
    denoiser = config.denoiser
    columns = denoiser.caption_channels if denoiser.use_prompt_embeddings else denoiser.cross_attention_dim
    text, audio_text = entry.text.float().tensor_split([int(columns)], dim=-1)
    return PreparedLTX2(
        text.contiguous(),
        audio_text.contiguous(),
        places if shown is None else places[:, shown],
        shown,
        *(heard or (None, None)),
    )


def _reference(latent: Tensor, pair: Pair | None) -> tuple[Tensor, Tensor]:
    """A reference sound, and the places of its frames and of those of the sound that is made. Raises a Problem where
    there is no such sound."""
    if pair is None or latent.shape[1::2] != (pair.audio[0], pair.audio[2]):
        made = "no sound" if pair is None else f"a sound of the shape {list(pair.audio)}"
        raise GraphFlowError(
            [
                Problem(
                    "no_sound",
                    f"the conditioning has a reference sound {list(latent.shape[1:])}, and the latent has {made}",
                    hint="join EmptyLTXVLatentVideo and LTXVEmptyLatentAudio with LTXVConcatAVLatent",
                )
            ]
        )
    before, places = _seconds(latent.shape[2]), _seconds(pair.audio[1])
    before = before - before[-1, 1] - 1 / FRAMES_A_SECOND
    return latent[0].float(), torch.cat([before, places])[None]


def _seconds(frames: int) -> Tensor:
    """[frames, 2]: where the frames of a sound begin and end. The first stands for one column of the spectrogram."""
    edges = (torch.arange(frames + 1, dtype=torch.float32) * CELL + 1 - CELL).clamp(min=0) / CELL / FRAMES_A_SECOND
    return torch.stack([edges[:-1], edges[1:]], dim=-1)


def _ends(guides: Guides, cells: int) -> Tensor:
    """Where the cells of guides end, [3, tokens]. A guide begins with a latent frame of one frame; one that begins
    where the latent frame before it ends goes on with its guide."""
    ends, before = guides.places + SPACE * guides.sides, -1.0
    for start in range(0, len(guides.sides), cells):
        begin = float(guides.places[0, start])
        before = begin + (TIME if begin == before else 1)
        ends[0, start : start + cells] = before
    return ends


def row(config: Config, ask: Ask, prepared: PreparedLTX2) -> Row:
    time = torch.tensor(ask.sigma * 1000.0, dtype=torch.float32)
    stacked = {"sigma": time, "text": prepared.text, "audio_text": prepared.audio_text, "places": prepared.places}
    pair = ask.entry.pair
    if pair is None:
        video_time = time if ask.made is None else (time * ask.made.expand(1, *ask.x.shape[1:]).float()).flatten()
        return _row(prepared, {"x": ask.x, "time": video_time, **stacked})
    video, audio = (part[0] for part in pair.parts(ask.x[None]))
    stacked |= {"x": video, "audio": audio, "time": time, "audio_time": time}
    if ask.made is not None:
        made, heard = (part[0] for part in pair.parts(ask.made[None].expand(1, *pair.shape)))
        stacked |= {"time": (time * made[0].float()).flatten(), "audio_time": time * heard[0, :, 0].float()}
    return _row(prepared, stacked)


def _row(prepared: PreparedLTX2, stacked: dict[str, Tensor]) -> Row:
    """A row, without the cells that are no tokens and with the reference sound."""
    shown, reference, time = prepared.shown, prepared.reference, stacked["time"]
    if shown is not None:
        stacked = {**stacked, "time": time[shown] if time.dim() else time, "shown": shown}
    if reference is not None and prepared.audio_places is not None:
        audio, times = stacked["audio"], stacked["audio_time"]
        times = times.to(audio.device).expand(audio.shape[1])
        both = torch.cat([reference.to(audio), audio], dim=1)
        times = torch.cat([times.new_zeros(reference.shape[1]), times])
        stacked = {**stacked, "audio": both, "audio_time": times, "audio_places": prepared.audio_places}
    return Row(stacked)


@torch.inference_mode()
def forward(
    module: Any, stacked: dict[str, Tensor], common: tuple[Any, ...] = (), ragged: dict[str, list[Tensor]] | None = None
) -> dict[str, Tensor]:
    """x [N, C, frames, h, w], audio [N, c, frames, bins] or none, time [N] or [N, tokens], audio_time as well, sigma
    [N], text and audio_text [N, T, D], places [N, 3, tokens, 2], audio_places [N, 1, frames, 2] or none, shown [N,
    tokens] or none -> out as x, audio as audio."""
    dtype, x, audio, shown = module.dtype, stacked["x"], stacked.get("audio"), stacked.get("shown")
    if audio is None:  # one empty frame of a sound that the video does not look at
        heard = x.new_zeros(len(x), 1, module.config.audio_in_channels)
    else:
        heard = audio.transpose(1, 2).flatten(2)
    out, sound = module(
        hidden_states=tokens_of(x, shown).to(dtype),
        audio_hidden_states=heard.to(dtype),
        encoder_hidden_states=stacked["text"].to(dtype),
        audio_encoder_hidden_states=stacked["audio_text"].to(dtype),
        timestep=stacked["time"],
        audio_timestep=stacked.get("audio_time", stacked["sigma"]),
        sigma=stacked["sigma"],
        audio_num_frames=heard.shape[1],
        video_coords=stacked["places"],
        audio_coords=stacked.get("audio_places"),
        isolate_modalities=audio is None,
        use_cross_timestep=True,
        return_dict=False,
    )
    answers = {"out": cells_of(out, shown, x.shape[2:])}
    if audio is not None:
        answers["audio"] = sound.unflatten(2, (audio.shape[1], audio.shape[3])).transpose(1, 2)
    return answers


def back(config: Config, ask: Ask, answers: dict[str, Tensor]) -> Tensor:
    pair = ask.entry.pair
    if pair is None:
        return answers["out"].float()
    made = answers["audio"].float()[:, -pair.audio[1] :]  # without the reference
    return pair.packed(answers["out"].float()[None], made[None])[0]
