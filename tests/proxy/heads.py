"""Blocks of field lines read as the proxy's table reads them: what is kept of them, and what they mean."""

from __future__ import annotations

from sidecar.proxy import h1

REQUESTS = h1.request_reader(watched=[b"x-watched"])
RESPONSES = h1.response_reader()


def request_fields(block: bytes) -> tuple[bytes, h1.RequestFields]:
    """Of a request."""
    kept, read = REQUESTS.read(block)
    fields = h1.request_fields(read)
    return h1.without(kept, fields.hop_by_hop) if fields.hop_by_hop else kept, fields


def response_fields(block: bytes) -> tuple[bytes, h1.ResponseFields]:
    """Of an answer."""
    kept, read = RESPONSES.read(block)
    fields = h1.response_fields(read)
    return h1.without(kept, fields.hop_by_hop) if fields.hop_by_hop else kept, fields
