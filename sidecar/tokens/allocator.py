"""The memory that scrypt needs is given back to the system, and so is everything that is freed after it.

The C library of most Linux systems takes blocks over 128 KiB from the system one by one and gives each back, until one
is freed that is larger: from then on it keeps blocks of that size, and twice as much of whatever else is freed (glibc's
"dynamic mmap threshold", mallopt(3)). After scrypt's 16 MiB this would hold for 16 MiB, and 32 MiB beside them, for as
long as the process lives: the next secret's derivation, and every peak of traffic, would stay resident. Naming the
thresholds switches that off.
"""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from typing import Final

MMAP_THRESHOLD: Final = 1 << 20
"""Bytes. Larger than any buffer that traffic needs often, as those must not cost system calls each time."""
TRIM_THRESHOLD: Final = 2 * MMAP_THRESHOLD
"""Bytes that may lie free at the heap's end; twice the other, as glibc would have it."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


@cache
def keep_little() -> None:
    """Switch that off for the whole process, where the C library has such a rule (not musl, not macOS)."""
    with suppress(ImportError, OSError, AttributeError):  # it is thrift, and nothing must fail for it
        import ctypes  # noqa: PLC0415 (costs who never derives a key)

        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, MMAP_THRESHOLD)
        library.mallopt(_M_TRIM_THRESHOLD, TRIM_THRESHOLD)
