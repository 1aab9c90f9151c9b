"""The status page: one file with its style and script inside, and a policy that lets nothing else run."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files

_INLINE = re.compile(rb"<(style|script)>(.*?)</\1>", re.DOTALL)


def load_page() -> tuple[bytes, str]:
    """The page, and its Content-Security-Policy: the hashes of its own style and script, and requests to itself."""
    page = files("sidecar.admin").joinpath("page.html").read_bytes()
    digests = {"style": "", "script": ""}
    for kind, content in _INLINE.findall(page):
        digests[kind.decode()] += f" 'sha256-{base64.b64encode(hashlib.sha256(content).digest()).decode()}'"
    policy = (
        f"default-src 'none'; style-src{digests['style']}; script-src{digests['script']}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return page, policy
