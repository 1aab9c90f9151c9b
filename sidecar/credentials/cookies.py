"""Cookies of one server's session: taken from `Set-Cookie`, sent as one `Cookie` line (RFC 6265). Pure.

There are no domains and no paths: a login needs neither. A cookie that could end a header line is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

CSRF_NAMES: Final = ("OPERATE-X-CSRF-TOKEN", "TASKLIST-X-CSRF-TOKEN", "X-CSRF-TOKEN")
"""Header and cookie names of the CSRF token, as the Camunda versions have them."""
MAX_COOKIES: Final = 32
MAX_BYTES: Final = 8 << 10
MAX_ATTRIBUTES: Final = 1024
"""Characters of a cookie's attributes that are looked into."""

_PAIR = re.compile(r"""([!#$%&'*+\-.^_`|~0-9A-Za-z]+)=("?[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*"?)""")
_MAX_AGE = re.compile(r"max-age\s*=\s*\"?(-?[0-9]{1,18})", re.IGNORECASE)
_EPOCH = re.compile(r"expires\s*=\s*[^;]*\b(?:19[0-9]{2})\b", re.IGNORECASE)


def apply(cookies: Mapping[str, str], set_cookie: Iterable[str]) -> dict[str, str]:
    """The cookies after a server's `Set-Cookie` values, in their order: set, replaced, deleted."""
    jar = dict(cookies)
    for line in set_cookie:
        pair, _, attributes = line.partition(";")
        match = _PAIR.fullmatch(pair.strip())
        if match is None:
            continue
        name, value = match.groups()
        if not value or _is_deleted(attributes[:MAX_ATTRIBUTES]):
            jar.pop(name, None)
        elif name in jar or len(jar) < MAX_COOKIES:
            jar[name] = value
    return jar


def _is_deleted(attributes: str) -> bool:
    """Servers delete by `Max-Age=0`, or by an `Expires` long ago (1970, or 1994 in Java's older servers)."""
    age = _MAX_AGE.search(attributes)
    return int(age[1]) <= 0 if age is not None else _EPOCH.search(attributes) is not None


def cookie_line(cookies: Mapping[str, str]) -> bytes:
    """The `Cookie` header line; empty where there is none."""
    if not cookies:
        return b""
    return b"Cookie: " + "; ".join(f"{name}={value}" for name, value in cookies.items()).encode("ascii") + b"\r\n"


def parse_line(line: bytes) -> dict[str, str]:
    """The cookies of a line that `cookie_line` made."""
    text = line.decode("ascii").removeprefix("Cookie: ").removesuffix("\r\n")
    return dict(pair.split("=", 1) for pair in text.split("; ") if "=" in pair)


def is_session(name: str) -> bool:
    """Whether it is one such as `OPERATE-SESSION`, `camunda-session`, a tenant's variant of it, or `JSESSIONID`."""
    return "session" in name.lower()


def csrf_cookie(cookies: Mapping[str, str]) -> tuple[str, str] | None:
    """The header's name and the CSRF token, where a cookie carries it."""
    for known in CSRF_NAMES:
        for name, value in cookies.items():
            # 8.10's tenants have X-CSRF-TOKEN-<tenant> as the cookie; the header keeps its name.
            if name.upper() == known or name.upper().startswith(f"{known}-"):
                return known, value
    return None
