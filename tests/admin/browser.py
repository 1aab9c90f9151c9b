"""A real browser: Debian's headless Chromium, driven by its chromedriver over W3C WebDriver."""

from __future__ import annotations

import base64
import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests import needs
from tests.peers.npm import project

PATIENCE = 30.0
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--no-proxy-server",
)


class Browser:
    """One window of it."""

    def __init__(self, driver: str) -> None:
        self._driver = driver
        self._session = ""

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._driver + self._session + path, data, method=method)
        request.add_header("Content-Type", "application/json")
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as response:
            return json.load(response)["value"]

    def start(self, binary: str) -> None:
        options = {"goog:chromeOptions": {"args": FLAGS, "binary": binary}, "goog:loggingPrefs": {"browser": "ALL"}}
        found = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": options}})
        self._session = f"/session/{found['sessionId']}"

    def close(self) -> None:
        self._ask("DELETE", "")

    def open(self, url: str) -> None:
        self._ask("POST", "/url", {"url": url})

    def run(self, script: str, *arguments: Any) -> Any:
        """What a function with this body returns; it may be a promise."""
        return self._ask("POST", "/execute/sync", {"script": script, "args": arguments})

    def until(self, script: str, *arguments: Any, patience: float = PATIENCE) -> Any:
        """The first true value of the script."""
        deadline = time.monotonic() + patience
        while not (value := self.run(script, *arguments)):
            assert time.monotonic() < deadline, f"not within {patience} s: {script}\n{self.text('body')}"
            time.sleep(0.05)
        return value

    def text(self, selector: str) -> str:
        """What a reader of it sees."""
        return self.run("return document.querySelector(arguments[0])?.innerText ?? ''", selector)

    def says(self, selector: str, *words: str) -> str:
        """Wait until all of these words can be read there."""
        script = (
            "const text = document.querySelector(arguments[0])?.innerText ?? '';"
            "return arguments[1].every(word => text.includes(word)) && text"
        )
        return self.until(script, selector, list(words))

    def tell(self, command: str, **parameters: Any) -> Any:
        """Use the DevTools protocol."""
        return self._ask("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def look(self, width: int, height: int = 900, *, dark: bool = False, scale: float = 1) -> None:
        """Be a screen of this size; under 600 a phone's."""
        phone = width < 600
        self.tell(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=phone
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.tell("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, **form: Any) -> bytes:
        """What is seen of the page, as a PNG where `form` (`format`, `quality`) says nothing else."""
        return base64.b64decode(self.tell("Page.captureScreenshot", **form)["data"])

    def complaints(self) -> list[str]:
        """What the console has, from the last time on."""
        return [entry["message"] for entry in self._ask("POST", "/se/log", {"type": "browser"})]

    def axe(self) -> list[str]:
        """What axe-core finds wrong, by its rule and place."""
        script = (project(Path(__file__).with_name("axe")) / "node_modules/axe-core/axe.min.js").read_text()
        self.tell("Runtime.evaluate", expression=script)  # a script element would not pass the page's policy
        found = self.run("return axe.run().then(result => result.violations)")
        return [
            f"{rule['id']}: {node['html'][:200]} {node['failureSummary']}" for rule in found for node in rule["nodes"]
        ]


@contextmanager
def browsing() -> Iterator[Browser]:
    """A browser with nothing open; its processes end with it."""
    binary = needs.program("chromium", package="chromium")
    driver = needs.program("chromedriver", package="chromium-driver")
    process = subprocess.Popen([driver, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    try:
        line = next(line for line in process.stdout if "successfully on port" in line)
        browser = Browser(f"http://127.0.0.1:{line.rstrip().rstrip('.').rpartition(' ')[2]}")
        browser.start(binary)
        try:
            yield browser
        finally:
            browser.close()
    finally:
        process.terminate()
        process.wait(PATIENCE)
        process.stdout.close()
