"""A page in a real headless Chromium, told over its DevTools protocol: in real time, until the page has what is waited
for."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import subprocess
from pathlib import Path
from typing import Any

import aiohttp

__all__ = ["CHROMIUM", "rendered"]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATIENCE = 60.0  # seconds; a page of ours needs less than one on a machine with nothing else to do


def rendered(profile: Path, address: str, *wanted: str) -> tuple[str, list[str]]:
    """The page as the browser has it once all the texts are in it (or as it is after a minute), and its complaints."""
    assert CHROMIUM is not None
    words = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--remote-debugging-port=0",
        f"--user-data-dir={profile}",
        "about:blank",
    ]
    browser = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        return asyncio.run(_rendered(profile / "DevToolsActivePort", address, wanted))
    finally:
        browser.kill()
        browser.wait()


async def _rendered(port_file: Path, address: str, wanted: tuple[str, ...]) -> tuple[str, list[str]]:
    async with asyncio.timeout(2 * PATIENCE), aiohttp.ClientSession() as session:
        while not (port_file.exists() and "\n" in port_file.read_text()):
            await asyncio.sleep(0.05)
        base = f"http://127.0.0.1:{port_file.read_text().split()[0]}"
        async with session.get(f"{base}/json/list") as answer:
            page = next(target for target in await answer.json() if target["type"] == "page")
        async with session.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0) as socket:
            return await _looked_at(_Page(socket), address, wanted)


async def _looked_at(page: _Page, address: str, wanted: tuple[str, ...]) -> tuple[str, list[str]]:
    for domain in ("Runtime", "Log", "Page"):
        await page.ask(f"{domain}.enable")
    await page.ask("Page.navigate", url=address)
    end = asyncio.get_running_loop().time() + PATIENCE
    while True:
        answer = await page.ask("Runtime.evaluate", expression="document.documentElement.outerHTML", returnByValue=True)
        text = answer["result"].get("value", "")
        if all(each in text for each in wanted) or asyncio.get_running_loop().time() > end:
            return text, page.complaints
        await asyncio.sleep(0.05)


class _Page:
    """Questions to one page; what its console says between the answers is kept."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket, self._numbers = socket, itertools.count(1)
        self.complaints: list[str] = []

    async def ask(self, method: str, **given: Any) -> dict[str, Any]:
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": given})
        while (message := await self._socket.receive_json()).get("id") != number:
            self._hear(message.get("method"), message.get("params", {}))
        return message.get("result") or {"result": {}}  # a page that is being left cannot answer

    def _hear(self, method: str, given: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            self.complaints.append(str(given["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled":
            self.complaints.append(str(given["args"]))
        elif method == "Log.entryAdded":
            self.complaints.append(f"{given['entry']['text']} ({given['entry'].get('url', '')})")
