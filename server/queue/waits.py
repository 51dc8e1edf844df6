"""Why a prompt waits, in words for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .lanes import Lane
from .records import Prompt

__all__ = ["reasons"]


def reasons(waiting: Iterable[Prompt], lanes: Iterable[Lane], paused: bool, one_a_client: bool) -> dict[str, str]:
    """For each prompt that waits, in their order, what it waits for, by its id."""
    workers = list(lanes)
    found: dict[str, str] = {}
    for place, prompt in enumerate(waiting):
        found[prompt.id] = _reason(prompt, place, workers, paused, one_a_client)
    return found


def _reason(prompt: Prompt, place: int, lanes: list[Lane], paused: bool, one_a_client: bool) -> str:
    if paused:
        return "the queue is paused"
    if not lanes:
        return "no worker is connected"
    unfit: Mapping[str, str] = {lane.name: lane.unfit[prompt.id] for lane in lanes if prompt.id in lane.unfit}
    fit = [lane for lane in lanes if lane.name not in unfit]
    if not fit:
        return "no worker can run it: " + "; ".join(f"{name}: {why}" for name, why in sorted(unfit.items()))
    if not any(lane.worker.is_ready for lane in fit):
        return "a worker is starting"
    if prompt.alone:
        return _ALONE if prompt.alone == 1 else _ALONE_OF_ALL
    open_lanes = [lane for lane in fit if lane.has_room]
    if one_a_client and open_lanes and all(prompt.client in lane.turns.clients for lane in open_lanes):
        return "another prompt of its client is at work"
    if place:
        return "1 prompt is before it" if place == 1 else f"{place} prompts are before it"
    if any(lane.turns.is_kept_free for lane in fit):
        return "a prompt that runs alone is at work, as a worker died while it ran beside others"
    at_work = sum(len(lane.at_work) for lane in fit)
    return "1 prompt is at work" if at_work == 1 else f"{at_work} prompts are at work"


_ALONE = "it runs alone on a worker that has nothing else at work, as one died while it ran beside others"
_ALONE_OF_ALL = (
    "it runs alone, when no worker has anything else at work, as the server ended while it ran beside others"
)
