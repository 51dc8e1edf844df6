"""Lists of prompts as JSON text, put together from the texts that the queue has stored: nothing is parsed to be written
again, so ten thousand waiting prompts are listed in milliseconds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..http import strict_json
from ..queue import Prompt

__all__ = ["history_text", "queue_text", "state_text"]


def queue_text(running: Iterable[Prompt], pending: Iterable[Prompt]) -> bytes:
    """`{"queue_running": [item], "queue_pending": [item]}`, an item as `Prompt.item` has it."""
    texts = (",".join(map(_item, prompts)) for prompts in (running, pending))
    return '{{"queue_running":[{}],"queue_pending":[{}]}}'.format(*texts).encode()


def history_text(prompts: Iterable[Prompt]) -> bytes:
    """`{id: entry}`, an entry as `Prompt.entry` has it."""
    return ("{" + ",".join(f"{_json(prompt.id)}:{_entry(prompt)}" for prompt in prompts) + "}").encode()


def state_text(head: dict[str, Any], prompt: Prompt | None) -> bytes:
    """An object that begins like `head`, with where the prompt is and what it has given; None: it is not known any
    more."""
    if prompt is None:
        return strict_json.dumps(head)
    state = {
        **head,
        "state": prompt.state,
        "created": prompt.created,
        "started": prompt.started,
        "finished": prompt.finished,
        "error": prompt.error,
    }
    return (_json(state)[:-1] + f',"outputs":{prompt.outputs_json}}}').encode()


def _item(prompt: Prompt) -> str:
    extra = prompt.extra_json
    if prompt.client_id is not None:
        rest = extra[1:] if extra == "{}" else "," + extra[1:]
        extra = f'{{"client_id":{_json(prompt.client_id)}{rest}'
    return f"[{prompt.number},{_json(prompt.id)},{prompt.workflow_json},{extra},{prompt.targets_json}]"


def _entry(prompt: Prompt) -> str:
    word, completed = ("success", "true") if prompt.state == "done" else ("error", "false")
    return (
        f'{{"prompt":{_item(prompt)},"outputs":{prompt.outputs_json},'
        f'"status":{{"status_str":"{word}","completed":{completed},"messages":{prompt.messages_json}}},'
        f'"meta":{prompt.meta_json}}}'
    )


def _json(value: object) -> str:
    return strict_json.dumps(value).decode()
