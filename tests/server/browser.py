"""A page in a real headless Chromium, driven over its DevTools protocol: real keys, real clicks, in real time."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp

__all__ = ["CHROMIUM", "BrowserPage", "opened", "rendered"]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATIENCE = 60.0  # seconds; a page of ours needs less than one on a machine with nothing else to do
KEYS = {
    "Enter": 13,
    "Tab": 9,
    "Escape": 27,
    "Home": 36,
    "End": 35,
    "ArrowLeft": 37,
    "ArrowUp": 38,
    "ArrowRight": 39,
    "ArrowDown": 40,
    "Delete": 46,
    "Backspace": 8,
    " ": 32,
}
"""Virtual key codes of keys that write no letter."""


def rendered(profile: Path, address: str, *wanted: str) -> tuple[str, list[str]]:
    """The page as the browser has it once all the texts are in it (or as it is after a minute), and its complaints."""
    with opened(profile) as page:
        page.go(address)
        end = time.monotonic() + PATIENCE
        while True:
            text = str(page.evaluate("document.documentElement?.outerHTML") or "")
            if all(each in text for each in wanted) or time.monotonic() > end:
                return text, page.complaints
            time.sleep(0.05)


@contextmanager
def opened(profile: Path, width: int = 1280, height: int = 900, dark: bool = False) -> Iterator[BrowserPage]:
    """A browser of its own with one page, of a size in CSS pixels; under 640 a phone, with touch."""
    assert CHROMIUM is not None
    profile.mkdir(parents=True, exist_ok=True)
    (profile / "DevToolsActivePort").unlink(missing_ok=True)  # of a browser before this one
    words = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--remote-debugging-port=0",
        f"--user-data-dir={profile}",
        "about:blank",
    ]
    browser = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    loop = asyncio.new_event_loop()
    page = None
    try:
        page = loop.run_until_complete(_connected(loop, profile / "DevToolsActivePort"))
        page.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 640
        )
        media = {"prefers-color-scheme": "dark" if dark else "light", "hover": "none" if width < 640 else "hover"}
        page.ask("Emulation.setEmulatedMedia", features=[{"name": key, "value": media[key]} for key in media])
        page.ask("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
        yield page
    finally:
        if page is not None:
            loop.run_until_complete(page.close())
        browser.kill()
        browser.wait()
        loop.close()


async def _connected(loop: asyncio.AbstractEventLoop, port_file: Path) -> BrowserPage:
    async with asyncio.timeout(PATIENCE):
        while not (port_file.exists() and "\n" in port_file.read_text()):
            await asyncio.sleep(0.05)
        base = f"http://127.0.0.1:{port_file.read_text().split()[0]}"
        session = aiohttp.ClientSession()
        async with session.get(f"{base}/json/list") as answer:
            target = next(target for target in await answer.json() if target["type"] == "page")
        socket = await session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0)
    page = BrowserPage(loop, session, socket)
    for domain in ("Runtime", "Log", "Page", "DOM"):
        await page.answer_to(f"{domain}.enable")
    return page


class BrowserPage:
    """Questions and keys to one page. What its console reports between the answers is kept in `complaints`."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, session: aiohttp.ClientSession, socket: aiohttp.ClientWebSocketResponse
    ) -> None:
        self._loop, self._session, self._socket = loop, session, socket
        self._numbers = itertools.count(1)
        self.complaints: list[str] = []

    def ask(self, method: str, **given: Any) -> dict[str, Any]:
        """One call of the protocol."""
        return self._loop.run_until_complete(self.answer_to(method, **given))

    def go(self, address: str) -> None:
        self.ask("Page.navigate", url=address)

    def evaluate(self, expression: str) -> Any:
        """The value of JavaScript in the page; a promise is waited for."""
        found = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found.get("result", {}).get("value")

    def until(self, expression: str, seconds: float = PATIENCE) -> Any:
        """Wait until the JavaScript is true; its value."""
        end = time.monotonic() + seconds
        while not (found := self.evaluate(f"(() => {{ try {{ return {expression} }} catch {{ return null }} }})()")):
            assert time.monotonic() < end, f"not in time: {expression}\n{self.text()}\n{self.complaints}"
            time.sleep(0.05)
        return found

    def until_still(self, expression: str, seconds: float = 0.5) -> None:
        """Wait until the value has not changed for so long: parts of the page that arrive late move what is below."""
        end = time.monotonic() + PATIENCE
        seen, since = self.evaluate(expression), time.monotonic()
        while time.monotonic() - since < seconds:
            assert time.monotonic() < end, f"still moves: {expression}\n{self.text()}"
            time.sleep(0.05)
            if (now := self.evaluate(expression)) != seen:
                seen, since = now, time.monotonic()

    def text(self) -> str:
        """All that can be read."""
        return str(self.evaluate("document.body?.innerText") or "")

    def wait_for(self, *texts: str) -> None:
        for text in texts:
            self.until(f"document.body.innerText.includes({json.dumps(text)})")

    def press(self, *keys: str, modifiers: int = 0) -> None:
        """Keys one after the other; 2 is Ctrl in `modifiers`."""
        for key in keys:
            text = {"Enter": "\r", " ": " "}.get(key, key if len(key) == 1 else "")
            code = KEYS.get(key, ord(key[0].upper()))
            given: dict[str, Any] = {"key": key, "windowsVirtualKeyCode": code, "modifiers": modifiers}
            self.ask("Input.dispatchKeyEvent", type="keyDown", **given, **({"text": text} if text else {}))
            self.ask("Input.dispatchKeyEvent", type="keyUp", **given)

    def write(self, text: str) -> None:
        """Into what has the focus."""
        self.ask("Input.insertText", text=text)

    def click(self, selector: str, index: int = 0) -> None:
        """A real click in the middle of an element."""
        element = f"document.querySelectorAll({json.dumps(selector)})[{index}]"
        self.until(f"!!{element}")
        self.evaluate(f"{element}.scrollIntoView({{block: 'nearest'}})")
        box = self.evaluate(f"(r => [r.x + r.width / 2, r.y + r.height / 2])({element}.getBoundingClientRect())")
        for kind in ("mousePressed", "mouseReleased"):
            self.ask("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def focused(self) -> str:
        """What has the focus, by its label or its words."""
        expression = "(e => e.getAttribute('aria-label') || e.innerText || e.id)(document.activeElement)"
        return str(self.evaluate(expression) or "")

    def screenshot(self, path: Path, whole: bool = False) -> None:
        shot = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def choose_file(self, selector: str, path: Path) -> None:
        """As if the user had chosen it in the dialog of an `<input type=file>`."""
        root = self.ask("DOM.getDocument")["root"]["nodeId"]
        node = self.ask("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.ask("DOM.setFileInputFiles", files=[str(path)], nodeId=node)

    async def close(self) -> None:
        await self._socket.close()
        await self._session.close()

    async def answer_to(self, method: str, **given: Any) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE):
            number = next(self._numbers)
            await self._socket.send_json({"id": number, "method": method, "params": given})
            while (message := await self._socket.receive_json()).get("id") != number:
                self._hear(message.get("method"), message.get("params", {}))
        return message.get("result") or {"result": {}}  # a page that is being left cannot answer

    def _hear(self, method: str | None, given: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            self.complaints.append(str(given["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled":
            self.complaints.append(str(given["args"]))
        elif method == "Log.entryAdded":
            self.complaints.append(f"{given['entry']['text']} ({given['entry'].get('url', '')})")
