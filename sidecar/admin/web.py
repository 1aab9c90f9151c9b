"""What the admin listener uses of aiohttp's server.

`aiohttp.web` would import its applications, routing, files and command line too, which nobody here uses: 1.4 MB, and
the time that takes.
"""

from __future__ import annotations

from aiohttp.web_request import BaseRequest
from aiohttp.web_response import Response, StreamResponse
from aiohttp.web_server import Server

__all__ = ["BaseRequest", "Response", "Server", "StreamResponse"]
