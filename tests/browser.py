"""A real, headless Chromium, spoken to by the DevTools protocol over a pipe: no port, no driver, no dependency."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
LIMIT_S = 120.0
# The browser reads commands from its file 3 and answers to its file 4.
WIRED = """
import fcntl, os, sys
read, write = (fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3])
os.dup2(read, 3)
os.dup2(write, 4)
os.execvp(sys.argv[3], sys.argv[3:])
"""


class Page:
    """One page of the browser. What it logs as an error, and every address that it asked for, is collected."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers = commands, answers
        self._number, self._rest, self._session = 0, b"", ""
        self.errors: list[str] = []
        self.addresses: list[str] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> Any:
        """The answer to a command; an AssertionError where the browser refuses it."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def open(self, path: Path, *, size: tuple[int, int] = (1280, 900), scheme: str = "light") -> None:
        """Loads a file and waits until its scripts have run."""
        self.visit(path.resolve().as_uri(), size=size, scheme=scheme)

    def visit(self, address: str, *, size: tuple[int, int] = (1280, 900), scheme: str = "light") -> None:
        """Loads an address and waits until its scripts have run."""
        width, height = size
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.send("Page.navigate", url=address)
        self.wait(
            f"location.href === {json.dumps(address)} && document.readyState === 'complete'"
        )  # not the page before

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression; an AssertionError where it throws."""
        answer = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, condition: str) -> None:
        """Until the expression is true; an AssertionError after two minutes."""
        until = time.monotonic() + LIMIT_S
        while not self.run(condition):
            assert time.monotonic() < until, f"never true: {condition}"
            time.sleep(0.05)

    def press(self, *keys: str) -> None:
        """Presses keys one after the other, as a person would: "a", "Tab", "Enter"."""
        codes = {
            "Tab": 9,
            "Enter": 13,
            "Escape": 27,
            " ": 32,
            "ArrowLeft": 37,
            "ArrowRight": 39,
            "ArrowUp": 38,
            "ArrowDown": 40,
        }
        for key in keys:
            shown = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
            facts = {"key": key, "windowsVirtualKeyCode": codes.get(key, ord(key[0].upper()))}
            self.send("Input.dispatchKeyEvent", type="keyDown", **facts, **({"text": shown} if shown else {}))
            self.send("Input.dispatchKeyEvent", type="keyUp", **facts)

    def write(self, text: str) -> None:
        """Writes text where the keyboard is."""
        self.send("Input.insertText", text=text)

    def screenshot(self) -> bytes:
        """What can be seen, as PNG."""
        return base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"])

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            piece = os.read(self._answers, 2**20)
            assert piece, "the browser has ended"
            self._rest += piece
        message, _, self._rest = self._rest.partition(b"\0")
        event: dict[str, Any] = json.loads(message)
        details = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            self.errors.append(details["exceptionDetails"].get("exception", {}).get("description", str(details)))
        elif event.get("method") == "Log.entryAdded" and details["entry"]["level"] == "error":
            self.errors.append(details["entry"]["text"])
        elif event.get("method") == "Runtime.consoleAPICalled" and details["type"] in ("error", "assert"):
            self.errors.append(str(details["args"]))
        elif event.get("method") == "Network.requestWillBeSent":
            self.addresses.append(details["request"]["url"][:200])
        return event


@contextmanager
def open_browser(profile: Path) -> Iterator[Page]:
    """A page of a browser with a new profile; skips the test aloud where there is no Chromium."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("no Chromium here (on Debian: apt-get install chromium)")
    command_end, commands = os.pipe()
    answers, answer_end = os.pipe()
    options = [
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"),
        *("--no-first-run", "--disable-component-update", "--remote-debugging-pipe", f"--user-data-dir={profile}"),
    ]
    process = subprocess.Popen(
        [sys.executable, "-c", WIRED, str(command_end), str(answer_end), program, *options],
        pass_fds=(command_end, answer_end),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(command_end)
    os.close(answer_end)
    try:
        yield Page(commands, answers)
    finally:
        os.close(commands)  # a browser whose pipe is closed ends
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(answers)
