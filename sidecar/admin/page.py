"""The status page: one document with its style and script inside, and a policy that lets nothing else run."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files


def load_page() -> tuple[bytes, str]:
    """The page, and its Content-Security-Policy: the hashes of its own style and script, and requests to itself."""
    folder = files("sidecar.admin")
    page = folder.joinpath("page.html").read_bytes()
    sources = {}
    for tag, file in (("style", "page.css"), ("script", "page.js")):
        content = folder.joinpath(file).read_bytes()
        page = page.replace(
            b"<%b></%b>" % (tag.encode(), tag.encode()), b"<%b>%b</%b>" % (tag.encode(), content, tag.encode())
        )
        sources[tag] = f"'sha256-{base64.b64encode(hashlib.sha256(content).digest()).decode()}'"
    policy = (
        f"default-src 'none'; style-src {sources['style']}; script-src {sources['script']}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    )
    return page, policy
