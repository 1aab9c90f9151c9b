"""One request and its answer: from the accepted head to the last byte. Its stages are data, `TRANSITIONS`."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING

from sidecar.errors import (
    DrainingError,
    Problem,
    TokenUnavailableError,
    UpstreamProtocolError,
    UpstreamTimeoutError,
    UpstreamUnreachableError,
)
from sidecar.proxy import chunked, pool, semantics, transport
from sidecar.proxy.authorizer import Attachment
from sidecar.proxy.routing import Request, Response
from sidecar.proxy.semantics import CHUNKED
from sidecar.proxy.upstream import UpstreamConnection

if TYPE_CHECKING:
    from sidecar.proxy.downstream import Downstream

# Stages: what the exchange waits for.
CREDENTIAL = "credential"
CONNECTION = "connection"
ANSWER = "answer"
REPLACEMENT = "replacement"
BODY = "body"
TUNNEL = "tunnel"
DONE = "done"

TRANSITIONS: dict[str, dict[str, str]] = {
    # The route's credential; the request's body is held back meanwhile. `sent`: credential and connection were at hand.
    CREDENTIAL: {"sent": ANSWER, "credential": CONNECTION, "failed": DONE, "gone": DONE},
    # A connection from the pool. The credential may expire over that; it is attached just before sending.
    CONNECTION: {"sent": ANSWER, "expired": CREDENTIAL, "failed": DONE, "gone": DONE},
    # The request is sent. `lost`: a reused connection was closed before a byte of the answer, once.
    # `complete`: the answer came as one piece, as small ones do.
    ANSWER: {
        "complete": DONE,
        "refused": REPLACEMENT,
        "lost": CONNECTION,
        "answered": BODY,
        "switched": TUNNEL,
        "failed": DONE,
        "gone": DONE,
    },
    # The upstream refused the credential: the answer is held until the next one is there, or none.
    REPLACEMENT: {"replaced": CONNECTION, "kept": BODY, "failed": DONE, "gone": DONE},
    # The answer's head is with the client.
    BODY: {"complete": DONE, "failed": DONE, "gone": DONE},
    TUNNEL: {"complete": DONE, "failed": DONE, "gone": DONE},
    DONE: {},
}

Held = tuple[Response, list[bytes | memoryview], bool]
"""A refusal's answer, what of its body is here, and whether that is all."""

_REFUSALS = frozenset({401, 403})
_CLIENT_GONE = 499
_SWITCHING = 101
_NOTHING = b""


class Exchange:
    """See the module. Owned by a `Downstream`; it is the listener of one `UpstreamConnection` at a time."""

    __slots__ = (
        "_answer",
        "_attachment",
        "_backlog",
        "_body",
        "_body_bytes",
        "_body_done",
        "_broken",
        "_client",
        "_coded",
        "_connection",
        "_held",
        "_id_line",
        "_queued",
        "_replayed",
        "_retried",
        "_reused",
        "_sent",
        "_task",
        "error",
        "line",
        "request",
        "route",
        "stage",
        "started",
        "status",
    )

    def __init__(self, client: Downstream, request: Request, now: float) -> None:
        """`now` is in monotonic seconds."""
        line = request.line
        route = line.route
        assert route is not None
        self._client = client
        self.request = request
        self.line = line
        self.route = route
        self.stage = CREDENTIAL
        self.status = 0
        self.started = now
        self._id_line = client.server.request_id_line() if request.fields.needs_id else _NOTHING
        self._connection: UpstreamConnection | None = None
        self._queued = False
        self._reused = False
        self._retried = False
        self._replayed = False
        self._attachment: Attachment | None = None
        self._answer: Response | None = None
        self._coded = False
        self._held: Held | None = None
        self._broken: Problem | None = None
        self.error: Problem | None = None
        self._task: asyncio.Task[None] | None = None
        self._body: list[bytes | memoryview] | None = []
        self._body_bytes = 0
        self._backlog = 0
        self._body_done = True
        self._sent = False
        route.stats.in_flight += 1

    def request_id(self) -> str:
        """What the upstream gets as `X-Request-ID`, for the log and for answers of our own."""
        return semantics.request_id(self._id_line or self.request.head)

    def _go(self, event: str) -> None:
        self.stage = TRANSITIONS[self.stage][event]

    # --- before the request is sent ------------------------------------------------------------------------------

    def start(self, body: bytes, *, more: bool) -> None:
        """Begin; `body` is what came with the head, and `more` says that it is not all."""
        self._body_done = not more
        if body:
            self._body = [body]
            self._body_bytes = len(body)
        if not self.line.public:
            self._attachment = self.route.authorizer.current()
            if self._attachment is None:
                self._run(self._obtain())
                return
        self._connect(self.started)

    async def _obtain(self) -> None:
        try:
            self._attachment = await self.route.authorizer.obtain()
        except Problem as error:
            self._fail(error)
        else:
            if self.stage == CREDENTIAL:
                self._connect(self._client.server.monotonic())

    def _run(self, coroutine: Coroutine[object, object, None]) -> None:
        """The slow paths alone have a task; its reference is kept, and it is cancelled with the client."""
        self._client.deadline = float("inf")  # whoever gives out credentials keeps their own time limit
        self._task = asyncio.get_running_loop().create_task(coroutine)
        self._task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        """A crash in a slow path is a bug of ours; its client is not left waiting."""
        self._client.server.report_crash(task)
        if not task.cancelled() and task.exception() is not None:
            self._fail(TokenUnavailableError("The credential could not be had by a fault in the sidecar; see its log."))

    def _connect(self, now: float, *, fresh: bool = False) -> None:
        connection = self.route.pool.acquire(self, now, fresh=fresh)
        self._queued = connection is None
        if connection is not None:
            self.connected(connection, reused=True)
            return
        if self.stage == CREDENTIAL:
            self._go("credential")
        # Twice: the time to connect, and as much to have one's turn.
        self._client.deadline = now + 2 * self.route.connect_timeout

    def connected(self, connection: pool.Connection, *, reused: bool) -> None:
        """See `pool.Waiter`: attach the credential and send."""
        assert isinstance(connection, UpstreamConnection)
        line = self.line
        now = self.started
        lines = [self.request.head, self._id_line]
        if self._queued or self._task is not None:
            now = self._client.server.monotonic()
        if self._queued and self._attachment is not None:
            self._attachment = self.route.authorizer.renewed(self._attachment)
        if not line.public:
            attachment = self._attachment
            if attachment is None:
                self.route.pool.release(connection, now)
                self._go("expired")
                self._run(self._obtain())
                return
            lines.append(attachment.header)
            if not line.method.safe:
                lines.append(attachment.unsafe_header)
        lines.append(b"\r\n")
        if self._body:
            lines += self._body  # type: ignore[arg-type]  # join takes any buffer
        connection.begin(self, lines, head_only=line.method.is_head, upgrade=self.request.fields.upgrade)
        self._go("sent")
        self._connection = connection
        self._reused = reused
        self._sent = True
        client, route = self._client, self.route
        client.deadline = now + (route.abandoned_timeout if client.half_closed else route.response_timeout)
        if self._body_bytes:
            self._shed_body()
        if not self._body_done:
            self._client.update_reading()

    def unconnected(self, error: Problem) -> None:
        """See `pool.Waiter`."""
        self._fail(error)

    # --- the request's body --------------------------------------------------------------------------------------

    def holds_back(self) -> bool:
        """Whether the client is not to send more for now: there is no connection to send it on, and enough is here."""
        return self._connection is None and self._body_bytes >= self._client.server.replay_bytes

    def body(self, pieces: list[bytes | memoryview], *, done: bool) -> None:
        """More of the request's body; the connection's to the upstream, or kept until there is one."""
        self._body_done = done
        if self.request.fields.chunked:
            pieces = _chunks(pieces, done=done)
        if self._body is not None:
            self._body += pieces
            self._body_bytes += sum(map(len, pieces))
        connection = self._connection
        if connection is None:
            return
        self._shed_body()
        if pieces:
            transport.writelines(connection.transport, pieces)
        now = self._client.server.monotonic()
        self._client.deadline = now + (self._response_timeout() if done else self.route.idle_timeout)

    def _shed_body(self) -> None:
        """What is too much to be replayed is kept no longer once it is sent."""
        if self._sent and self._body_bytes > self._client.server.replay_bytes:
            self._body = None

    # --- the answer ----------------------------------------------------------------------------------------------

    def informational(self, answer: Response) -> None:
        """See `upstream.Listener`: 100 and 103 pass to whoever may understand them (RFC 9110, 15.2)."""
        if self.line.minor:
            self._client.send([answer.head, b"\r\n"])

    def answered(self, answer: Response, pieces: list[bytes | memoryview], *, done: bool) -> None:
        """See `upstream.Listener`."""
        attachment = self._attachment
        if attachment is not None:
            authorizer = self.route.authorizer
            refused = answer.status in _REFUSALS and authorizer.refuses(answer.status, safe=self.line.method.safe)
            if self._replayed:
                authorizer.replayed(attachment, accepted=not refused)
            elif refused and self._body is not None:
                self._hold(attachment, answer, pieces, done=done)
                return
            elif refused:
                authorizer.invalidate(attachment)
            if answer.fields.set_cookie and not refused:
                authorizer.received_cookies(attachment, answer.fields.set_cookie)
        if not done:
            self._go("answered")
        self._pass_on(answer, pieces, done=done)

    def _pass_on(self, answer: Response, pieces: list[bytes | memoryview], *, done: bool) -> None:
        self._answer = answer
        self._body = None
        self.status = answer.status
        client = self._client
        minor = self.line.minor
        if not self._body_done:
            client.keep_alive = False  # an early answer: what is left of the request cannot be told from the next one
        head = [answer.head]
        if answer.fields.ends >= CHUNKED and not self.line.method.is_head:
            if minor:
                self._coded = True
                head.append(b"Transfer-Encoding: chunked\r\n")
                pieces = _chunks(pieces, done=done)
            else:
                client.keep_alive = False
        if not client.keep_alive:
            head.append(b"Connection: close\r\n")
        elif not minor:
            head.append(b"Connection: keep-alive\r\n")
        head.append(b"\r\n")
        client.send([*head, *pieces])
        if done:
            self._complete(answer)
        else:
            client.deadline = client.server.monotonic() + self.route.idle_timeout

    def received(self, pieces: list[bytes | memoryview], *, done: bool) -> None:
        """See `upstream.Listener`."""
        if self._held is not None:
            self._hold_more(pieces, done=done)
            return
        answer = self._answer
        assert answer is not None
        self._client.send(_chunks(pieces, done=done) if self._coded else pieces)
        if done:
            self._complete(answer)
        else:
            self._client.deadline = self._client.server.monotonic() + self.route.idle_timeout

    def _complete(self, answer: Response) -> None:
        now = self._client.server.monotonic()
        self._go("complete")
        self._let_go(now, answer.fields.idle_seconds)
        self._finish("upstream", now)

    def _let_go(self, now: float, idle_seconds: float) -> None:
        """The connection's part in this exchange is over."""
        connection = self._detach()
        if connection is None:
            return
        if idle_seconds and self._body_done:
            self.route.pool.release(connection, now, idle_seconds)
        else:
            self.route.pool.discard(connection)

    def _detach(self) -> UpstreamConnection | None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._client.upstream_is_full = False
            connection.end()
        return connection

    # --- a refused credential (DESIGN 5.8) -----------------------------------------------------------------------

    def _hold(self, attachment: Attachment, answer: Response, pieces: list[bytes | memoryview], *, done: bool) -> None:
        self._go("refused")
        self._held = answer, pieces, done
        if not done:
            assert self._connection is not None
            self._connection.pause(paused=True)
        else:
            # It ends here for the upstream, who may close now: that is no fault of the answer's.
            self._let_go_refused(answer)
        self._run(self._replace(attachment))

    def _hold_more(self, pieces: list[bytes | memoryview], *, done: bool) -> None:
        """Reading was paused, but what is already under way comes."""
        assert self._held is not None
        answer, before, _ = self._held
        self._held = answer, before + pieces, done
        if done:
            self._let_go_refused(answer)

    def _let_go_refused(self, answer: Response) -> None:
        """A replay is not to stand in line behind what the upstream has not taken of the refused request."""
        idle_seconds = 0.0 if self._client.upstream_is_full else answer.fields.idle_seconds
        self._let_go(self._client.server.monotonic(), idle_seconds)

    async def _replace(self, refused: Attachment) -> None:
        replacement: Attachment | None = None
        try:
            replacement = await self.route.authorizer.replace(refused)
        except Problem:
            replacement = None  # there is no better answer than the upstream's own
        if self.stage != REPLACEMENT:
            return
        held, self._held = self._held, None
        if replacement is None or self._body is None:
            self._keep(held)
            return
        self._drop_connection()
        self._attachment = replacement
        self._replayed = True
        self.route.stats.retries["token_refused"] += 1
        self._go("replaced")
        self._connect(self._client.server.monotonic())

    def _keep(self, held: Held | None) -> None:
        """There is no better answer than the upstream's own."""
        if held is None:
            self._fail(self._broken or UpstreamProtocolError("The upstream closed the connection in its answer."))
            return
        self._go("kept")
        if self._connection is not None:
            self._connection.pause(paused=False)
        answer, pieces, done = held
        self._pass_on(answer, pieces, done=done)

    # --- a tunnel ------------------------------------------------------------------------------------------------

    def switched(self, answer: Response, data: bytes) -> None:
        """See `upstream.Listener`: a WebSocket handshake is done (RFC 6455, 4.2.2)."""
        self._go("switched")
        self.status = _SWITCHING
        self._client.keep_alive = False
        self._client.send([answer.head, b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", data])
        self._client.tunnel()
        self._touch_tunnel()

    def tunnelled(self, data: bytes) -> None:
        """See `upstream.Listener`."""
        self._client.send([data])
        self._touch_tunnel()

    def tunnel_upstream(self, data: bytes) -> None:
        """Bytes from the client."""
        if self._connection is not None:
            transport.write(self._connection.transport, data)
            self._touch_tunnel()

    def tunnel_ended(self) -> None:
        """See `upstream.Listener`: a WebSocket has said what it had to say in a Close frame; one end ends both."""
        self._end_tunnel("upstream")

    def _end_tunnel(self, source: str) -> None:
        if self.stage != TUNNEL:
            return
        self._go("complete")
        connection = self._detach()
        if connection is not None:
            # What the client has sent last still goes out: close() flushes, and then ends.
            connection.transport.close()
            self.route.pool.discard(connection, close=False)
        self._finish(source, self._client.server.monotonic())

    def _touch_tunnel(self) -> None:
        self._client.deadline = self._client.server.monotonic() + self.route.idle_timeout

    # --- ends ----------------------------------------------------------------------------------------------------

    def upstream_lost(self) -> None:
        """See `upstream.Listener`. A reused connection may have been closed in the same moment (RFC 9112, 9.3.1)."""
        if self._reused and not self._retried and self.line.method.idempotent and self._body is not None:
            self._retried = True
            self._drop_connection()
            self.route.stats.retries["connection_lost"] += 1
            self._go("lost")
            self._connect(self._client.server.monotonic(), fresh=True)
        else:
            self._fail(UpstreamProtocolError("The upstream closed the connection without an answer."))

    def broken(self, error: Problem) -> None:
        """See `upstream.Listener`. A held answer that is cut off is of no use; its replacement may still be."""
        if self._held is not None:
            self._held = None
            self._drop_connection()
            self._broken = error
        else:
            self._fail(error)

    def upstream_paused(self, *, paused: bool) -> None:
        """See `upstream.Listener`."""
        self._client.upstream_is_full = paused
        self._backlog = self._unsent()
        self._client.update_reading()

    def client_paused(self, *, paused: bool) -> None:
        """The client takes no more for now, or does again."""
        self._backlog = self._unsent()
        if self._connection is not None and self._held is None:
            self._connection.pause(paused=paused)

    def client_ended(self) -> None:
        """The client sends nothing more (a half-close); in a tunnel that ends it, an answer still has its way."""
        if self.stage == TUNNEL:
            self._end_tunnel("client")
        elif self.stage == ANSWER:
            limit = self._client.server.monotonic() + self._response_timeout()
            self._client.deadline = min(self._client.deadline, limit)

    def _response_timeout(self) -> float:
        """Seconds; a route without a limit has one for a client that has ended its side: it may have gone away."""
        return self.route.abandoned_timeout if self._client.half_closed else self.route.response_timeout

    def _unsent(self) -> int:
        """Bytes that wait in our buffers for either side to take them."""
        connection = self._connection
        upstream = connection.transport.get_write_buffer_size() if connection is not None else 0
        return upstream + self._client.transport.get_write_buffer_size()

    def _moves(self) -> bool:
        """Whether a slow peer took something of what waits for it since the last look: slow is not idle."""
        before, self._backlog = self._backlog, self._unsent()
        return 0 < self._backlog < before

    def expired(self) -> None:
        """A time limit is over."""
        if self._moves():
            self._client.deadline = self._client.server.monotonic() + self.route.idle_timeout
        elif self.stage == CONNECTION:
            if self.route.pool.is_full():
                self._fail(pool.overloaded())
            else:
                self._fail(UpstreamUnreachableError("The upstream did not accept a connection in time."))
        elif self.stage == TUNNEL:
            self._end_tunnel("sidecar")
        elif self.stage == ANSWER and not self._body_done and not self._client.upstream_is_full:
            self._client.body_timed_out()
        else:
            self._fail(UpstreamTimeoutError("The upstream did not answer in time."))

    def fail(self, error: Problem) -> None:
        """The client's side has found a fault in the request's body."""
        self._fail(error)

    def cut_off(self) -> None:
        """The process ends first. What was sent gets no answer that invites to send it again."""
        self._fail(DrainingError("This sidecar is shutting down.", retry_after=1.0), abruptly=self._sent)

    def _fail(self, error: Problem, *, abruptly: bool = False) -> None:
        """Response with `error` while that can be done, else end the connection so that nothing looks whole."""
        if self.stage == DONE:
            return
        abruptly = abruptly or self.stage in {BODY, TUNNEL}
        self.error = error
        self._stop("failed")
        self.status = self.status or error.status
        self.route.stats.failed(error.code, self._client.server.clock.wall())
        if abruptly:
            self._client.abort()
            self._finish("sidecar", self._client.server.monotonic())
        else:
            self._client.fail(error, self.line)
            self._finish("sidecar", self._client.server.monotonic())

    def gone(self) -> None:
        """The client is gone: its own request ends, and nothing else (never a shared refresh)."""
        if self.stage == DONE:
            return
        self._stop("gone")
        self.status = self.status or _CLIENT_GONE
        self._finish("client", self._client.server.monotonic())

    def _stop(self, event: str) -> None:
        self._go(event)
        self._held = None
        self._body = None
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
        self.route.pool.cancel(self)
        self._drop_connection()

    def _drop_connection(self) -> None:
        connection = self._detach()
        if connection is not None:
            self.route.pool.discard(connection)

    def _finish(self, source: str, now: float) -> None:
        stats = self.route.stats
        stats.in_flight -= 1
        seconds = now - self.started
        stats.finished(self.line.method.label, self.status, source, seconds)
        server = self._client.server
        if self.status >= server.logs_from or source != "upstream":
            server.log_access(self, source, seconds)
        self._client.exchange_done(now)


def _chunks(pieces: list[bytes | memoryview], *, done: bool) -> list[bytes | memoryview]:
    """A body in the chunked coding, its last chunk included where it is done."""
    coded = chunked.encode(pieces)
    if done:
        coded.append(chunked.LAST_CHUNK)
    return coded
