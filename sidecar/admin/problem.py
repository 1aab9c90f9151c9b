"""An error of the admin listener as `application/problem+json` (RFC 9457)."""

from __future__ import annotations

import json
import math

from sidecar.admin import web
from sidecar.errors import Problem


def problem_response(problem: Problem) -> web.Response:
    """The response that says `problem`; the header `Sidecar-Error` has its code."""
    body = {
        "type": "about:blank",
        "title": problem.title,
        "status": problem.status,
        "code": problem.code,
        "detail": problem.detail,
    }
    headers = {"Content-Type": "application/problem+json", "Sidecar-Error": problem.code}
    if problem.retry_after is not None:
        headers["Retry-After"] = str(math.ceil(problem.retry_after))
    return web.Response(
        status=problem.status,
        body=json.dumps(body).encode() + b"\n",
        headers=headers,
    )
