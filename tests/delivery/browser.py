"""A headless Chromium, driven through its DevTools protocol over two pipes; standard library only."""

import base64
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"),
    *("--disable-component-update", "--disable-sync", "--lang=en", "--remote-debugging-pipe"),
)
_CHARACTERS = {"Enter": "\r", " ": " "}  # without them no button is pressed by its key
_KEYS = {"ArrowLeft": 37, "ArrowRight": 39, "Enter": 13, "Escape": 27, "Tab": 9, " ": 32}


class Browser:
    """One page; every method waits for its answer and raises AssertionError when the browser reports an error.

    `profile` is a folder that outlives the browser; without one it is deleted with it.
    """

    def __init__(self, profile: Path | None = None) -> None:
        found = next(filter(None, map(shutil.which, _NAMES)), None)
        if found is None:
            pytest.skip(f"no browser on this machine: looked for {', '.join(_NAMES)}")
        self._scratch = None if profile else tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        folder = self._scratch.name if self._scratch else str(profile)
        to_read, self._to = os.pipe()
        self._from, to_write = os.pipe()
        # Chromium reads file 3 and writes file 4; the shell puts the pipes there.
        script = f'exec "$@" 3<&{to_read} 4>&{to_write}'
        command = [found, *_FLAGS, f"--user-data-dir={folder}", "about:blank"]
        self._process = subprocess.Popen(
            ["bash", "-c", script, "bash", *command],
            pass_fds=(to_read, to_write),
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        self._held, self._number = b"", 0
        self._session = ""
        self.errors: list[str] = []
        target = next(t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Accessibility"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command and wait for its result; what the page logs as an error meanwhile is noted in `errors`."""
        self._number += 1
        sent = {"id": self._number, "method": method, "params": parameters}
        sent |= {"sessionId": self._session} if self._session else {}
        os.write(self._to, json.dumps(sent).encode() + b"\0")
        while True:
            said = self._read()
            if said.get("id") == self._number:
                assert "error" not in said, f"{method}: {said['error']}"
                return said["result"]
            if said.get("method") == "Runtime.exceptionThrown":
                self.errors.append(str(said["params"]["exceptionDetails"]))
            elif said.get("method") == "Log.entryAdded" and said["params"]["entry"]["level"] == "error":
                self.errors.append(said["params"]["entry"]["text"])

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._held:
            got = os.read(self._from, 1 << 16)
            assert got, "the browser ended"
            self._held += got
        first, _, self._held = self._held.partition(b"\0")
        return json.loads(first)

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)

    def reload(self) -> None:
        """Load the page anew, and return when the old one is gone."""
        self.run("window.isOld = true")
        self.call("Page.reload")
        self.wait("!window.isOld && document.readyState === 'complete'")

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression (a promise is awaited)."""
        said = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in said, said["exceptionDetails"]
        return said["result"].get("value")

    def wait(self, script: str, seconds: float = 20) -> None:
        """Wait until an expression is true; what cannot be evaluated yet, in a page half loaded, is not true."""
        end = time.monotonic() + seconds
        while not self._holds(script):
            assert time.monotonic() < end, f"never true: {script}; {self.text('body')[:400]}; {self.errors}"
            time.sleep(0.02)

    def _holds(self, script: str) -> bool:
        try:
            return bool(self.run(f"(() => {{ try {{ return Boolean({script}) }} catch {{ return false }} }})()"))
        except AssertionError as error:
            if "navigated" in str(error):  # the page is just being replaced by another
                return False
            raise

    def text(self, selector: str) -> str:
        """The text as it is seen."""
        return self.run(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''")

    def click(self, selector: str) -> None:
        self.run(f"document.querySelector({json.dumps(selector)}).click()")

    def fill(self, selector: str, text: str) -> None:
        change = "e.dispatchEvent(new Event('change', {bubbles: true}))"
        self.run(
            f"{{const e = document.querySelector({json.dumps(selector)}); e.value = {json.dumps(text)}; {change}}}"
        )

    def press(self, key: str, *, ctrl: bool = False) -> None:
        """Press and release a key where the focus is."""
        named = key in _KEYS and key not in _CHARACTERS
        about = {"key": key, "windowsVirtualKeyCode": _KEYS.get(key, ord(key[0].upper())), "modifiers": 2 * ctrl}
        text = {} if named or ctrl else {"text": _CHARACTERS.get(key, key)}
        self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", **about, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def look(self, *, width: int, height: int = 850, dark: bool = False) -> None:
        """Give the page this size and colour scheme, on a phone's terms where it is narrow."""
        phone = width < 600
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, path: Path, *, whole: bool = False) -> None:
        said = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(said["data"]))

    def names(self, role: str) -> list[str]:
        """The names that a screen reader says for all elements of a role."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        return [n["name"]["value"] for n in nodes if not n["ignored"] and n.get("role", {}).get("value") == role]

    def close(self) -> None:
        """End it as a person does, so that it writes down what it kept."""
        self._session = ""
        with contextlib.suppress(AssertionError, OSError):
            self.call("Browser.close")
        os.close(self._to)
        os.close(self._from)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.terminate()
            self._process.wait(10)
        if self._scratch:
            self._scratch.cleanup()
