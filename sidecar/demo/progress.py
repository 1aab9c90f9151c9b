"""Shows how far the demo is: each token when it is granted, and a bar."""

from __future__ import annotations

from typing import TextIO

from sidecar.clock import Clock
from sidecar.demo.issuer import Issuer

WIDTH = 40
REDRAW = 0.05  # seconds between two drawings of the bar


class Progress:
    """Draws a bar on a terminal; writes a line for each token and each quarter elsewhere."""

    def __init__(self, out: TextIO, total: int, clock: Clock, issuer: Issuer) -> None:
        self._out = out
        self._total = total
        self._clock = clock
        self._issuer = issuer
        self._begun = clock.monotonic()
        self._tokens = self._answered = self._quarters = 0
        self._drawn_at = float("-inf")
        self._terminal = out.isatty()

    def answered(self, count: int) -> None:
        """Show that `count` requests are answered."""
        self._answered = count
        self._show()
        if not self._terminal and count * 4 // self._total > self._quarters:
            self._quarters = count * 4 // self._total
            self._line(f"  {self._elapsed()}  {count} of {self._total} answered")

    async def animate(self) -> None:
        """Draw again and again until cancelled, so that the time runs while nothing is answered."""
        while True:
            await self._clock.sleep(2 * REDRAW)
            self._show()

    def finish(self) -> None:
        """Draw for the last time."""
        self._drawn_at = float("-inf")
        self._show()
        if self._terminal:
            print(file=self._out)

    def _show(self) -> None:
        for request in self._issuer.requests[self._tokens :]:
            before = self._issuer.requests[self._tokens - 1].at if self._tokens else request.at
            apart = f"   ({request.at - before:.2f} s after the one before)" if self._tokens else ""
            what = f"token for {request.audience}" if request.outcome == "granted" else f"token {request.outcome}!"
            self._line(f"  {request.at - self._begun:5.2f} s  {what}{apart}")
            self._tokens += 1
        now = self._clock.monotonic()
        if self._terminal and now - self._drawn_at >= REDRAW:
            self._drawn_at = now
            full = WIDTH * self._answered // max(1, self._total)
            bar = f"{'█' * full}{'░' * (WIDTH - full)}  {self._answered}/{self._total} "
            print(f"\r  {self._elapsed()}  {bar}", end="", flush=True, file=self._out)

    def _elapsed(self) -> str:
        return f"{self._clock.monotonic() - self._begun:5.2f} s"

    def _line(self, text: str) -> None:
        # On a terminal the bar stands on this line: it is overwritten, and drawn again below.
        print(f"\r\x1b[K{text}" if self._terminal else text, flush=True, file=self._out)
        self._drawn_at = float("-inf")
