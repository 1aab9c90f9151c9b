"""gRPC's statuses: what the sidecar's own errors become, and the HTTP status that stands for each. Pure.

The pairs are those of google/rpc/code.proto.
"""

from __future__ import annotations

from dataclasses import dataclass

from grpc import StatusCode

from sidecar.errors import CredentialRejectedError, Problem
from sidecar.grpc.metadata import Metadata
from sidecar.proxy.problem import retry_after

HTTP_STATUS = {
    StatusCode.OK: 200,
    StatusCode.CANCELLED: 499,
    StatusCode.UNKNOWN: 500,
    StatusCode.INVALID_ARGUMENT: 400,
    StatusCode.DEADLINE_EXCEEDED: 504,
    StatusCode.NOT_FOUND: 404,
    StatusCode.ALREADY_EXISTS: 409,
    StatusCode.PERMISSION_DENIED: 403,
    StatusCode.UNAUTHENTICATED: 401,
    StatusCode.RESOURCE_EXHAUSTED: 429,
    StatusCode.FAILED_PRECONDITION: 400,
    StatusCode.ABORTED: 409,
    StatusCode.OUT_OF_RANGE: 400,
    StatusCode.UNIMPLEMENTED: 501,
    StatusCode.INTERNAL: 500,
    StatusCode.UNAVAILABLE: 503,
    StatusCode.DATA_LOSS: 500,
}
_OF_HTTP = {
    400: StatusCode.INVALID_ARGUMENT,
    403: StatusCode.PERMISSION_DENIED,
    413: StatusCode.RESOURCE_EXHAUSTED,
    501: StatusCode.UNIMPLEMENTED,
    502: StatusCode.UNAVAILABLE,
    503: StatusCode.UNAVAILABLE,
    504: StatusCode.DEADLINE_EXCEEDED,
}
_OF_ERROR: dict[type[Problem], StatusCode] = {
    # Trying again does not help before somebody has repaired the credential.
    CredentialRejectedError: StatusCode.UNAUTHENTICATED,
}


UPSTREAM, SIDECAR, CLIENT = "upstream", "sidecar", "client"
"""Who has ended a call."""


@dataclass(frozen=True, slots=True)
class Status:
    """How a call ended."""

    code: StatusCode
    details: str = ""
    trailers: Metadata = ()
    source: str = UPSTREAM
    error: Problem | None = None
    """The sidecar's own error."""
    reason: str = ""
    """What grpcio says of it; it may name addresses, and is for the log alone."""


def of_error(error: Problem, source: str = SIDECAR, reason: str = "") -> Status:
    """What a client is told of an error of the sidecar's: `sidecar-error` in the trailers has the stable code."""
    trailers: Metadata = (("sidecar-error", error.code),)
    if error.retry_after is not None:
        trailers += (("retry-after", str(retry_after(error.retry_after))),)
    code = _OF_ERROR.get(type(error)) or _OF_HTTP.get(error.status, StatusCode.INTERNAL)
    return Status(code, error.detail, trailers, source, error, reason)
