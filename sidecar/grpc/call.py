"""Calls, each from its arrival to its status: who may come in, with which credential, and how it ended."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import structlog
from grpc import StatusCode, aio
from structlog.contextvars import bound_contextvars

from sidecar import background
from sidecar.clock import Clock
from sidecar.errors import (
    BodyTooLargeError,
    DrainingError,
    OverloadedError,
    Problem,
    SecretUnavailableError,
    UpstreamTimeoutError,
    UpstreamUnreachableError,
)
from sidecar.grpc import metadata, methods
from sidecar.grpc.channels import Channel, Channels
from sidecar.grpc.metadata import Credentials, Metadata
from sidecar.grpc.statuses import CLIENT, HTTP_STATUS, SIDECAR, Status, of_error
from sidecar.proxy.authorizer import Attachment, Authorizer
from sidecar.proxy.guard import Guard
from sidecar.telemetry.http import RouteStats

_NO_CONNECTION = ("failed to connect", "errors resolving", "DNS resolution failed", "Stream removed", "Socket closed")
"""How grpcio's own words begin. Its state alone does not tell: it may be another one a moment after the call's end."""
_UNAUTHORIZED = 401
_NO_HOST = b"localhost"
_ID_LENGTH = 128
_LOGS_FROM = {"all": 0, "errors": 400, "none": 1000}

_log = structlog.get_logger("sidecar.grpc")


class Account:
    """All calls of one listener."""

    def __init__(self, stats: RouteStats, guard_rejections: Counter[str], clock: Clock) -> None:
        """`stats` are the route's counters, `guard_rejections` the guard's."""
        self.stats = stats
        self.guard_rejections = guard_rejections
        self._clock = clock
        self.calls: set[Call] = set()
        """Under way."""
        self.limit = 0
        self.access = "errors"

    def is_full(self) -> bool:
        """Whether the newest call is one too many."""
        return len(self.calls) > self.limit

    def began(self, call: Call) -> None:
        """It is under way."""
        self.calls.add(call)
        self.stats.in_flight += 1

    def ended(self, call: Call, status: Status, seconds: float) -> None:
        """It is over, after `seconds`."""
        self.calls.discard(call)
        self.stats.in_flight -= 1
        code = HTTP_STATUS[status.code]
        self.stats.finished(methods.label(call.method), code, status.source, seconds)
        own = status.error.code if status.error is not None else ""
        self.stats.erred(self._clock.wall(), code, status.source, own, call.request_id)
        if own and status.source == SIDECAR:
            self.stats.failed(own, self._clock.wall())
        # A client ends a long poll or a stream by cancelling it, or by its deadline: that is no error.
        if code >= _LOGS_FROM[self.access] and (status.source != CLIENT or self.access == "all"):
            self._log(call, status, code, seconds)

    def _log(self, call: Call, status: Status, code: int, seconds: float) -> None:
        error = status.error
        _log.info(
            "request",
            route=self.stats.route,
            method=methods.label(call.method),
            path=call.method,
            status=code,
            grpc_status=status.code.name,
            source=status.source,
            milliseconds=round(seconds * 1000, 1),
            request_id=call.request_id[:_ID_LENGTH],
            **({"code": error.code, "detail": error.detail} if error is not None else {}),
            **({"reason": status.reason} if status.reason else {}),
        )


@dataclass(frozen=True)
class Plan:
    """What calls are carried out with. A reload replaces it; calls under way keep theirs."""

    authorizer: Authorizer
    credentials: Credentials
    channels: Channels
    guard: Guard
    replay_bytes: int
    max_message: int
    clock: Clock

    @cached_property
    def read_by_guard(self) -> frozenset[str]:
        """The metadata that the guard goes by."""
        return frozenset({"origin", "sec-fetch-site", *(name.decode() for name in self.guard.watched)})


class Call(ABC):
    """One call; how its messages travel is the subclasses' affair."""

    def __init__(self, plan: Plan, account: Account, method: str, context: Any, request_id: str) -> None:
        """`context` is grpcio's `ServicerContext`; `request_id` is for a client that gave none."""
        received = context.invocation_metadata()
        given = metadata.request_id(received)
        self.method = method
        self._started = plan.clock.monotonic()
        self.request_id = given or request_id
        self._plan = plan
        self._account = account
        self._context = context
        self._received = received
        self._metadata = metadata.for_upstream(received) + (() if given else ((metadata.REQUEST_ID, request_id),))
        self._headers: Metadata = ()
        """The upstream's metadata that go before its messages."""
        self._passed_on = False
        self._replayed: Attachment | None = None
        self._task = asyncio.current_task()
        self._is_cut_off = False

    def cut_off(self) -> None:
        """End it now: the process ends."""
        self._is_cut_off = True
        if self._task is not None:
            self._task.cancel()

    async def run(self) -> None:
        """Carry it out.

        Raises:
            AbortError: grpcio's way to end a call with another status than OK.
        """
        self._account.began(self)
        status = Status(StatusCode.CANCELLED, source=CLIENT)
        try:
            status = await self._carry_out()
            if self._headers and not self._passed_on:
                await self._context.send_initial_metadata(self._headers)
        except Problem as error:
            status = of_error(error)
        except asyncio.CancelledError:
            if not self._is_cut_off:
                raise
            status = of_error(DrainingError("This sidecar is shutting down.", retry_after=1.0))
        except aio.InternalError:
            raise asyncio.CancelledError from None  # grpcio's word for writing to a client that is gone
        except Exception as error:  # noqa: BLE001 (whatever it is, the client is not left waiting)
            background.failed("grpc", error)
            status = Status(
                StatusCode.INTERNAL, "The call failed by a fault in the sidecar; see its log.", source=SIDECAR
            )
        finally:
            self._account.ended(self, status, self._plan.clock.monotonic() - self._started)
        self._context.set_trailing_metadata(status.trailers)
        if status.code is not StatusCode.OK:
            await self._context.abort(status.code, status.details)

    async def _carry_out(self) -> Status:
        self._let_in()
        authorizer = self._plan.authorizer
        attachment = authorizer.current()
        if attachment is None:
            with bound_contextvars(request_id=self.request_id):
                attachment = await authorizer.obtain()
        status = await self._on_channel(attachment)
        if not self._is_refusal(status):
            return status
        if not self._is_whole():
            authorizer.invalidate(attachment)
            return status
        replacement = await self._replacement(attachment)
        if replacement is None:
            return status
        self._account.stats.retries["token_refused"] += 1
        self._replayed = replacement
        self._headers = ()
        status = await self._on_channel(replacement)
        self._tell_replayed(accepted=not self._is_refusal(status))
        return status

    def _let_in(self) -> None:
        """The guard's rules but the one for the host, which grpcio does not show: no web page speaks HTTP/2 here.

        Raises:
            Problem: it may not come in.
        """
        plan = self._plan
        values = metadata.values(self._received, plan.read_by_guard)
        refusal = plan.guard.refusal(_NO_HOST, _NO_HOST, values) if values or plan.guard.watched else None
        if refusal is not None:
            self._account.guard_rejections[refusal[0]] += 1
            raise refusal[1]
        if self._account.is_full():
            raise OverloadedError("Too many calls are under way (limits.connections).", retry_after=1.0)

    # --- a refused credential ------------------------------------------------------------------------------------

    def _is_refusal(self, status: Status) -> bool:
        return status.code is StatusCode.UNAUTHENTICATED and self._plan.authorizer.refuses(_UNAUTHORIZED, safe=False)

    async def _replacement(self, refused: Attachment) -> Attachment | None:
        try:
            return await self._plan.authorizer.replace(refused)
        except Problem:
            return None  # there is no better answer than the upstream's own

    def _tell_replayed(self, *, accepted: bool) -> None:
        """Once, as soon as it is known: a stream may go on for days."""
        attachment, self._replayed = self._replayed, None
        if attachment is not None:
            self._plan.authorizer.replayed(attachment, accepted=accepted)

    def _is_whole(self) -> bool:
        """Whether another attempt would be the same to both sides."""
        return not self._passed_on

    # --- one attempt ---------------------------------------------------------------------------------------------

    @abstractmethod
    async def _attempt(self, channel: Channel, arguments: dict[str, Any]) -> Any:
        """Send the request and pass on the answer; the trailers.

        Raises:
            AioRpcError: it ended with another status than OK.
        """

    async def _on_channel(self, attachment: Attachment) -> Status:
        try:
            channel = self._plan.channels.take()
        except SecretUnavailableError as error:
            raise UpstreamUnreachableError(
                "The files for TLS (grpc.tls) cannot be used; see the sidecar's log."
            ) from error
        # The deadline is the client's; the credential is attached just before sending.
        credential = self._plan.credentials.of(attachment)
        arguments = {"metadata": self._metadata + credential, "timeout": self._context.time_remaining()}
        try:
            return Status(StatusCode.OK, trailers=metadata.for_client(await self._attempt(channel, arguments)))
        except aio.AioRpcError as error:
            self._headers = self._headers or metadata.for_client(error.initial_metadata())
            return self._failed(channel, error)
        finally:
            self._plan.channels.release(channel)

    def _failed(self, channel: Channel, error: aio.AioRpcError) -> Status:
        """Whose word it is: grpcio makes statuses of its own, without trailers, and says them as the upstream's."""
        code, trailers = error.code(), metadata.for_client(error.trailing_metadata())
        details = error.details() or ""
        own: Problem | None = None
        if trailers:
            pass
        elif code is StatusCode.DEADLINE_EXCEEDED and self._context.time_remaining() == 0:
            return of_error(UpstreamTimeoutError("The upstream did not answer within the call's deadline."), CLIENT)
        elif code is StatusCode.UNAVAILABLE and (details.startswith(_NO_CONNECTION) or not channel.is_connected()):
            own = UpstreamUnreachableError("There is no connection to the gRPC upstream, or it was lost; see the log.")
        elif code is StatusCode.RESOURCE_EXHAUSTED and "eceived message larger than max" in details:
            own = BodyTooLargeError(f"A message of the upstream is over {self._plan.max_message} bytes (max_message).")
        return Status(code, details, trailers) if own is None else of_error(own, reason=details)


class UnaryCall(Call):
    """One message for one message."""

    def __init__(self, *arguments: Any, request: bytes) -> None:
        """`request` is the one message."""
        super().__init__(*arguments)
        self._request = request
        self.answer = b""

    async def _attempt(self, channel: Channel, arguments: dict[str, Any]) -> Any:
        call = channel.aio.unary_unary(self.method)(self._request, **arguments)
        self.answer = await call
        self._headers = metadata.for_client(await call.initial_metadata())
        return await call.trailing_metadata()
