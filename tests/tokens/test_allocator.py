"""What a derived key leaves behind in this process."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from sidecar.tokens.allocator import MMAP_THRESHOLD, TRIM_THRESHOLD, keep_little

SCRIPT = """
import asyncio
import os
from pathlib import Path
from sidecar.secret import Secret
from sidecar.tokens.encryption import KeyRing
from sidecar.tokens.identity import Identity

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

async def main():
    ring = KeyRing()
    await ring.keys(Identity("issuer", (), Secret("first")))
    before = resident()
    await ring.keys(Identity("issuer", (), Secret("second")))
    peak = [bytes(1000) for _ in range(20_000)]
    del peak
    print(resident() - before)

asyncio.run(main())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the rule that is switched off is glibc's")
def test_neither_a_key_nor_a_peak_after_it_stays_resident() -> None:
    """The second secret's 16 MiB and 20 MB of anything else are given back: without it, 37 MB stay for good."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 4 << 20


def test_a_c_library_without_the_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is nothing to set nothing is set, and nothing fails."""
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    keep_little()


def test_the_buffers_of_traffic_are_below_the_threshold() -> None:
    """A read of uvloop's is 256,000 bytes, which must not be taken from the system and given back each time."""
    assert MMAP_THRESHOLD >= 4 * 256_000
    assert TRIM_THRESHOLD == 2 * MMAP_THRESHOLD
