"""Blocks of field lines read as the proxy's routing table reads them: what is kept of them, and what they mean."""

from __future__ import annotations

from sidecar.proxy import h1, semantics
from sidecar.proxy.routing import Request, RoutingTable

REQUESTS = semantics.request_reference(watched=[b"x-watched"]).fields
RESPONSES = semantics.response_reference().fields


def request_fields(block: bytes, minor: int = 1) -> tuple[bytes, semantics.RequestFields]:
    """Of a request in HTTP/1.`minor`."""
    kept, read = REQUESTS.read(block)
    fields = semantics.request_fields(read, minor)
    return h1.without(kept, fields.hop_by_hop) if fields.hop_by_hop else kept, fields


def response_fields(block: bytes) -> tuple[bytes, semantics.ResponseFields]:
    """Of a response."""
    kept, read = RESPONSES.read(block)
    fields = semantics.response_fields(b"HTTP/1.1 200 OK\r\n" + read)
    return h1.without(kept, fields.hop_by_hop) if fields.hop_by_hop else kept, fields


def resolved(table: RoutingTable, line: bytes) -> Request:
    """A request line, as a whole head resolves it."""
    return table.request(line + b"\r\nHost: localhost\r\n\r\n")
