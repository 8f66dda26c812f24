"""A headless Chromium that is driven through pipes: no driver, no port, no package."""

import base64
import io
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import matplotlib.image
import numpy as np

EXECUTABLE = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
"""Where Chromium is, or None."""

FLAGS = ["--headless=new", "--no-sandbox", "--enable-unsafe-swiftshader", "--hide-scrollbars", "--no-first-run",
         "--disable-extensions", "--disable-gpu-watchdog", "--disable-background-networking",
         "--remote-debugging-pipe"]  # fmt: skip


class Chromium:
    """A browser with one page.

    Attributes:
        problems: errors and warnings of the console, uncaught exceptions, and requests for anything but the page.
    """

    def __init__(self, *flags: str, width: int = 1200, height: int = 900) -> None:
        assert EXECUTABLE is not None
        self.problems: list[str] = []
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        to_browser, self._writing = os.pipe()
        self._reading, from_browser = os.pipe()

        def connect() -> None:  # the browser reads commands from file 3 and answers on file 4
            first, second = os.dup(to_browser), os.dup(from_browser)
            os.dup2(first, 3)
            os.dup2(second, 4)

        self._process = subprocess.Popen(
            [EXECUTABLE, *FLAGS, *flags, f"--user-data-dir={self._profile.name}", "about:blank"],
            pass_fds=(3, 4),
            preexec_fn=connect,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._buffer, self._number, self._session = b"", 0, ""
        page = next(t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for domain in ("Runtime", "Log", "Page", "Network"):
            self.call(f"{domain}.enable")
        self.resize(width, height)

    def call(self, method: str, /, **parameters: Any) -> dict[str, Any]:
        """A command of the DevTools protocol, and its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._writing, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self._note(answer)

    def _next(self, seconds: float = 180.0) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._reading], [], [], seconds)
            assert ready, "the browser does not answer"
            part = os.read(self._reading, 1 << 20)
            assert part, "the browser has ended"
            self._buffer += part
        text, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(text)

    def _note(self, event: dict[str, Any]) -> None:
        method, parameters = event.get("method"), event.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(parameters["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning", "assert"):
            self.problems.append(json.dumps(parameters["args"]))
        elif method == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            if "GL Driver Message" not in parameters["entry"]["text"]:  # of screenshots: reading pixels is slow
                self.problems.append(parameters["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            url = str(parameters["request"]["url"])
            if not url.startswith(("file:", "data:", "blob:", "about:")):
                self.problems.append(f"asks the network for {url}")

    def open(self, path: Path, seconds: float = 180.0) -> None:
        """Loads a page and waits until it has drawn."""
        self.call("Page.navigate", url=path.resolve().as_uri())
        self.wait_for(
            "document.documentElement.dataset.ready === 'true' || !document.getElementById('trouble').hidden", seconds
        )

    def wait_for(self, expression: str, seconds: float = 90.0) -> None:
        """Waits until an expression of the page is true."""
        end = time.monotonic() + seconds
        while not self.evaluate(f"document.readyState === 'complete' && ({expression})"):
            assert time.monotonic() < end, f"{expression} did not become true; {self.problems}"
            time.sleep(0.05)

    def evaluate(self, expression: str) -> Any:
        """Value of an expression (or what its promise gives) in the page."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def settle(self) -> None:
        """Waits until what was changed is drawn."""
        self.evaluate(
            "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 30))))"
        )

    def press(self, key: str, text: str = "") -> None:
        """Presses a key, such as "ArrowRight" or "Tab"."""
        codes = {"Tab": 9, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Home": 36, "End": 35}
        code = codes.get(key, ord(key[0].upper()))
        more = {"text": text} if text else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, **more)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)
        self.settle()

    def resize(self, width: int, height: int) -> None:
        """Sets the size of the window, in pixels."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def media(self, media: str = "", **features: str) -> None:
        """Sets the medium ("print") and features such as prefers_color_scheme="dark"."""
        listed = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.call("Emulation.setEmulatedMedia", media=media, features=listed)

    def screenshot(self, path: Path | None = None, element: str | None = None) -> np.ndarray:
        """What is seen of the whole page or of an element, (height, width, 3), 0 to 255."""
        box = "document.documentElement" if element is None else f"document.getElementById({element!r})"
        sides = "x: b.x + scrollX, y: b.y + scrollY, width: b.width, height: b.height, scale: 1"
        clip = self.evaluate(f"(() => {{ const b = {box}.getBoundingClientRect(); return {{ {sides} }} }})()")
        answer = self.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        data = base64.b64decode(answer["data"])
        if path is not None:
            path.write_bytes(data)
        return np.rint(255 * matplotlib.image.imread(io.BytesIO(data), format="png")[..., :3]).astype(np.int16)

    def close(self) -> None:
        """Ends the browser."""
        self._process.terminate()
        self._process.wait(timeout=20)
        os.close(self._writing)
        os.close(self._reading)
        self._profile.cleanup()

    def __enter__(self) -> "Chromium":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
