"""The native scanner of heads: what it reads is what the reference reads, and it stays within its memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.proxy import scan, semantics
from tests.needs import program
from tests.proxy.scanning import compare, compare_all

pytestmark = pytest.mark.skipif(not scan.NATIVE, reason="there was no compiler: the reference serves")
ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "sidecar/proxy/_scan.pyx"
USUAL = (
    b"POST /operate/v2/process-instances/search?x=1 HTTP/1.1\r\nHost: 127.0.0.1:8600\r\nAccept: */*\r\n"
    b"Authorization: Bearer theirs\r\nX_Forwarded_For: 1.2.3.4\r\nX-Request-ID: \t abc \r\nContent-Length: 2\r\n\r\n"
)


def test_every_head_of_the_corpora_changed_at_every_byte() -> None:
    """The same result, or the same refusal in the same words: a second reading of HTTP would be a hole."""
    assert compare_all() > 100_000


NAMES = st.sampled_from(
    [b"Host", b"content-length", b"X-Forwarded-For", b"x.real_ip", b"Accept", b"X-Request-ID", b"TE"]
)
VALUES = st.binary(max_size=6) | st.sampled_from([b" 1", b"a b", b"x" * 201, b"chunked"])


@given(st.lists(st.tuples(NAMES, VALUES), max_size=5), st.sampled_from([b"/", b"/a//b", b"/a.b/?c=%d", b"http://h/"]))
def test_any_fields(lines: list[tuple[bytes, bytes]], target: bytes) -> None:
    """Names that mean something, in any order, with any value."""
    block = b"".join(name + b":" + value + b"\r\n" for name, value in lines)
    reference = semantics.request_reference()
    compare(scan.request_scanner(reference), reference, b"GET " + target + b" HTTP/1.1\r\n" + block + b"\r\n")


class _NoReference:
    """A reference that must not be asked."""

    def __init__(self, real: scan.RequestReference) -> None:
        self.fields, self.names, self.prefixes = real.fields, real.names, real.prefixes

    def scan(self, head: bytes) -> NoReturn:
        raise AssertionError(head)


def test_usual_heads_are_read_natively() -> None:
    """Else it would be no faster, and nobody would notice."""
    from sidecar.proxy import _scan  # noqa: PLC0415 (it may not be there)

    scanner = _scan.RequestScanner(_NoReference(semantics.request_reference()))
    method, _, path, query, minor, passed, read, size = scanner.scan(USUAL + b"{}")
    assert (method, path, query, minor, size) == (
        b"POST",
        b"/operate/v2/process-instances/search",
        b"?x=1",
        1,
        len(USUAL),
    )
    assert passed == b"Accept: */*\r\nX-Request-ID: \t abc \r\n"
    assert read == b"host:127.0.0.1:8600\r\nx-request-id:\r\ncontent-length:2\r\n"


@pytest.mark.skipif(not SOURCE.exists(), reason="these tests run without the sources, as make test-compiled does it")
def test_sanitizers_find_nothing(tmp_path: Path) -> None:
    """Built with AddressSanitizer and UBSan, it reads every head of the corpora, and no byte beside one."""
    gcc = program("gcc", package="gcc")
    shutil.copy(SOURCE, tmp_path)
    flags = "-fsanitize=address,undefined -fno-sanitize-recover=all -g -O1"
    build = [sys.executable, "-m", "Cython.Build.Cythonize", "-q", "-i", "-3", "_scan.pyx"]
    subprocess.run(build, cwd=tmp_path, env=os.environ | {"CFLAGS": flags, "LDFLAGS": flags}, check=True, timeout=300)
    (module,) = tmp_path.glob("_scan*.so")
    libraries = [
        subprocess.run([gcc, f"-print-file-name={name}"], check=True, capture_output=True, text=True).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    env = os.environ | {
        "LD_PRELOAD": " ".join(libraries),
        "ASAN_OPTIONS": "detect_leaks=0",
        # Every object in memory of its own, so that AddressSanitizer knows where it ends.
        "PYTHONMALLOC": "malloc",
    }
    run = [sys.executable, "-m", "tests.proxy.scanning", str(module)]
    result = subprocess.run(run, cwd=ROOT, env=env, check=False, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "heads read alike" in result.stdout
