"""The requests of the protocol, one function each, and what is raised where one is refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp

from graphflow import GraphFlowError, InvalidWorkflow, Problem

__all__ = ["Connection", "NotOffered", "opened"]

TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60)


class NotOffered(Exception):
    """The server does not have it: 404, or a page for people in place of JSON."""


class Connection:
    """An open session with one server."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url, self.session = url.rstrip("/"), session

    async def get(self, path: str, **query: Any) -> Any:
        async with self.session.get(self.url + path, params=query) as response:
            return await _json(response)

    async def post(self, path: str, body: Any) -> Any:
        async with self.session.post(self.url + path, json=body) as response:
            return await _json(response)

    async def prompt(self, body: Mapping[str, Any]) -> str:
        """Queue a prompt; its id. Raises InvalidWorkflow, also where only a part of it could run."""
        answer = await self.post("/prompt", body)
        problems = list(_node_problems(answer.get("node_errors") or {}))
        if problems:
            await self.cancel(answer["prompt_id"])
            raise InvalidWorkflow(problems)
        return str(answer["prompt_id"])

    async def cancel(self, prompt_id: str) -> None:
        await self.post("/queue", {"delete": [prompt_id]})
        await self.post("/interrupt", {"prompt_id": prompt_id})

    async def history(self, prompt_id: str) -> dict[str, Any] | None:
        """The entry of a prompt that has ended."""
        found: dict[str, dict[str, Any]] = await self.get(f"/history/{quote(prompt_id, safe='')}")
        return found.get(prompt_id)

    async def waits_or_runs(self, prompt_id: str) -> dict[str, Any] | None:
        """The workflow of a prompt in the queue."""
        queue = await self.get("/queue")
        items = [*queue.get("queue_running", ()), *queue.get("queue_pending", ())]
        return next((item[2] for item in items if item[1] == prompt_id), None)

    async def log(self, prompt_id: str, since: int, wait: float) -> list[dict[str, Any]]:
        """The numbered events after `since`. Raises NotOffered where the server keeps no such log."""
        path = f"/prompts/{quote(prompt_id, safe='')}/events"
        return list((await self.get(path, since=since, wait=f"{wait:g}"))["events"])

    async def view(self, filename: str, subfolder: str, kind: str) -> bytes:
        query = {"filename": filename, "subfolder": subfolder, "type": kind}
        async with self.session.get(self.url + "/view", params=query) as response:
            if response.status in (400, 403, 404):
                name = "/".join(filter(None, (subfolder, filename)))
                raise GraphFlowError([Problem("no_file", f"{self.url} has no {kind} file {name!r}")])
            if response.status != 200:
                await _json(response)
            return await response.read()

    async def upload(self, path: Path, kind: str, overwrite: bool) -> str:
        form = aiohttp.FormData()
        form.add_field("image", await asyncio.to_thread(path.read_bytes), filename=path.name)
        form.add_field("type", kind)
        form.add_field("overwrite", "true" if overwrite else "false")
        async with self.session.post(self.url + "/upload/image", data=form) as response:
            answer = await _json(response)
        return "/".join(part for part in (answer.get("subfolder"), answer["name"]) if part)

    def socket(self, client_id: str, prompt_id: str | None) -> Any:
        """The websocket, as an async context manager. Other servers than ours leave `prompt_id` aside."""
        query = {"clientId": client_id} | ({"prompt_id": prompt_id} if prompt_id is not None else {})
        return self.session.ws_connect(self.url + "/ws", params=query, heartbeat=20, max_msg_size=0)


@asynccontextmanager
async def opened(url: str, token: str | None) -> AsyncIterator[Connection]:
    """A connection; whatever goes wrong on the way is a GraphFlowError that names the server and what to do."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with aiohttp.ClientSession(headers=headers, timeout=TIMEOUT) as session:
        try:
            yield Connection(url, session)
        except aiohttp.ClientConnectorError:
            hint = "start one with `graphflow serve`, or mend the address"
            raise GraphFlowError([Problem("unreachable", f"no server answers at {url}", hint=hint)]) from None
        except (aiohttp.ClientError, TimeoutError) as error:
            text = f"the connection to {url} broke: {error or type(error).__name__}"
            raise GraphFlowError([Problem("unreachable", text)]) from error
        except NotOffered as error:
            raise GraphFlowError([Problem("not_offered", f"{url} has no {error}")]) from None


async def _json(response: aiohttp.ClientResponse) -> Any:
    text = await response.text()
    try:
        body = json.loads(text) if text else {}
    except ValueError:
        body = None
    if response.status == 200 and body is not None:
        return body
    if response.status >= 500:
        raise aiohttp.ClientResponseError(
            response.request_info, response.history, status=response.status, message=response.reason or ""
        )
    problems = list(_problems(body if isinstance(body, dict) else {}))
    if response.status == 400 and problems:
        raise InvalidWorkflow(problems)
    if response.status in (200, 404, 405):
        raise NotOffered(response.url.path)
    if response.status in (401, 403):
        hint = "give the token that the server was started with: gf.connect(url, token=...)"
        raise GraphFlowError(problems or [Problem("no_token", f"{response.url.origin()} refuses us", hint=hint)])
    text = f"{response.method} {response.url.path}: {response.status} {response.reason}"
    raise GraphFlowError(problems or [Problem("refused", text)])


def _problems(body: Mapping[str, Any]) -> list[Problem]:
    """Our server sends its Problems; others send the errors of nodes, or one error for all."""
    if body.get("problems"):
        fields = Problem.__dataclass_fields__
        return [Problem(**{key: value for key, value in item.items() if key in fields}) for item in body["problems"]]
    found = list(_node_problems(body.get("node_errors") or {}))
    error = body.get("error")
    if not found and isinstance(error, dict):
        details = f" ({error['details']})" if error.get("details") else ""
        found = [Problem(str(error.get("type")), f"{error.get('message')}{details}")]
    return found or ([Problem("refused", str(error))] if error else [])


def _node_problems(node_errors: Mapping[str, Any]) -> list[Problem]:
    return [
        Problem(
            str(error.get("type")),
            ": ".join(filter(None, (error.get("message"), error.get("details")))),
            node=node,
            title=item.get("class_type"),
            input=(error.get("extra_info") or {}).get("input_name"),
        )
        for node, item in node_errors.items()
        for error in item.get("errors", ())
    ]
