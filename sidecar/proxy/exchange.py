"""One request and its response, from the accepted head to the last byte. `stages.py` says what may follow what."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import AbstractContextManager

from structlog.contextvars import bound_contextvars

from sidecar import background
from sidecar.errors import (
    DrainingError,
    OverloadedError,
    Problem,
    TokenUnavailableError,
    UpstreamProtocolError,
    UpstreamTimeoutError,
    UpstreamUnreachableError,
)
from sidecar.proxy import framing, pool, problem, semantics, transport
from sidecar.proxy.authorizer import Attachment
from sidecar.proxy.context import Client, Process, Record, Waits
from sidecar.proxy.framing import Pieces
from sidecar.proxy.problem import Message
from sidecar.proxy.routing import Request, Response
from sidecar.proxy.semantics import CHUNKED
from sidecar.proxy.stages import (
    DONE,
    SEND_BODY,
    SWITCHED_PROTOCOL,
    TRANSITIONS,
    WAIT_CONNECTION,
    WAIT_CREDENTIAL,
    WAIT_REPLACEMENT,
    WAIT_RESPONSE,
)
from sidecar.proxy.upstream import Listener, UpstreamConnection

HeldResponse = tuple[Response, Pieces, bool]
"""The response that refused a credential, what of its body is here, and whether that is all."""

_REFUSALS = frozenset({401, 403})
_CLIENT_GONE = 499
_SWITCHING = 101
_NOTHING = b""


class Exchange(Listener):
    """Owned by a `Client`; it is the listener of one `UpstreamConnection` at a time."""

    def __init__(self, client: Client, process: Process, request: Request, now: float) -> None:
        """`now` is in seconds of the monotonic clock."""
        route = request.route
        assert route is not None
        self._client = client
        self._process = process
        self.request = request
        self.route = route
        self.stage = WAIT_CREDENTIAL
        self._status = 0
        self._started = now
        self._id_line = process.request_id_line() if request.fields.needs_id else _NOTHING
        self._connection: UpstreamConnection | None = None
        self._upstream_is_full = False
        self._reused = False
        self._retried = False
        self._replayed = False
        self._attachment: Attachment | None = None
        self._response: Response | None = None
        self._chunked = False
        self._held: HeldResponse | None = None
        self._lost: Problem | None = None
        self._error: Problem | None = None
        self._task: asyncio.Task[None] | None = None
        self._body: bytes | bytearray | None = _NOTHING
        self._body_done = True
        self._backlog = 0
        self._sent = False
        self._waits: Waits = ()
        self._waiting_since = now
        self.client_name = ""
        """The client's name in the configuration, where it was asked for."""
        route.stats.in_flight += 1

    def _go(self, event: str) -> None:
        self.stage = TRANSITIONS[self.stage][event]

    # --- before the request is sent ------------------------------------------------------------------------------

    def start(self, body: bytes, more: bool) -> None:
        """Begin; `body` is what came with the head, and `more` says that it is not all."""
        self._body_done = not more
        self._body = body
        if not self.request.public:
            self._attachment = self.route.authorizer.current()
            if self._attachment is None:
                self._run(self._obtain())
                return
        self._connect(self._started)

    def _waited(self, what: str, since: float) -> float:
        """Note a wait that is over, for the request's trace; return the moment."""
        now = self._process.monotonic()
        self._waits += ((what, since, now),)
        return now

    async def _obtain(self) -> None:
        since = self._process.monotonic()
        try:
            with self._named():
                self._attachment = await self.route.authorizer.obtain()
        except Problem as error:
            self._waited("token", since)
            self.fail(error)
        else:
            if self.stage == WAIT_CREDENTIAL:
                self._connect(self._waited("token", since))

    def _named(self) -> AbstractContextManager[None]:
        """Give the log lines of a token request that begins meanwhile this request's id."""
        return bound_contextvars(request_id=self._request_id())

    def _run(self, coroutine: Coroutine[object, object, None]) -> None:
        """Wait for a credential in a task, which only these slow paths have; it is cancelled with the client."""
        self._client.deadline = float("inf")  # whoever gives out credentials keeps a time limit of their own
        self._task = asyncio.get_running_loop().create_task(coroutine)
        self._task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (bug := task.exception()) is not None:
            background.failed("requests", bug)
            self.fail(TokenUnavailableError("The credential could not be had by a fault in the sidecar; see its log."))

    def _connect(self, now: float, *, fresh: bool = False) -> None:
        connection = self.route.pool.acquire(self, now, fresh)
        if connection is not None:
            self._send_request(connection, now, True)
            return
        if self.stage == WAIT_CREDENTIAL:
            self._go("credential_obtained")
        self._waiting_since = now
        # Twice: the time to connect, and as much to have one's turn.
        self._client.deadline = now + 2 * self.route.connect_timeout

    def connected(self, connection: pool.Connection, *, reused: bool) -> None:
        """A connection that was waited for is there: the credential may have expired meanwhile."""
        if self._attachment is not None:
            self._attachment = self.route.authorizer.renewed(self._attachment)
        self._send_request(connection, self._waited("connection", self._waiting_since), reused)

    def unconnected(self, error: Problem) -> None:
        """There will be no connection."""
        self._waited("connection", self._waiting_since)
        self.fail(error)

    def _send_request(self, connection: pool.Connection, now: float, reused: bool) -> None:
        """Attach the credential and send."""
        assert isinstance(connection, UpstreamConnection)
        request = self.request
        lines: list[bytes | bytearray] = [request.head, self._id_line]
        if not request.public:
            attachment = self._attachment
            if attachment is None:
                self.route.pool.release(connection, now)
                self._go("credential_expired")
                self._run(self._obtain())
                return
            lines.append(attachment.header)
            if not request.method.safe:
                lines.append(attachment.unsafe_header)
        lines.append(b"\r\n")
        if self._body:
            lines.append(self._body)
        connection.begin(self, lines, request.method.is_head, request.fields.upgrade)
        self._go("request_sent")
        self._connection = connection
        self._reused = reused
        self._sent = True
        client, route = self._client, self.route
        client.deadline = now + (route.abandoned_timeout if client.half_closed else route.response_timeout)
        if self._body:
            self._shed_body()
        if not self._body_done:
            client.update_reading()

    # --- the request's body --------------------------------------------------------------------------------------

    def holds_back(self) -> bool:
        """Whether the client is not to send more for now.

        The upstream takes no more; or there is no connection yet, and as much is here as is kept.
        """
        if self._connection is not None:
            return self._upstream_is_full
        return self._body is not None and len(self._body) >= self._process.replay_bytes

    def body(self, pieces: Pieces, done: bool) -> None:
        """Send more of the request's body, or keep it until there is a connection."""
        self._body_done = done
        if self.request.fields.chunked:
            pieces = framing.encode(pieces, done=done)
        if self._body is not None:
            self._body = transport.appended(self._body, b"".join(pieces))
        connection = self._connection
        if connection is None:
            return
        self._shed_body()
        if pieces:
            transport.writelines(connection.transport, pieces)
        self._client.deadline = self._process.monotonic() + (
            self._response_timeout() if done else self.route.idle_timeout
        )

    def _shed_body(self) -> None:
        """Keep what is too much to be sent again no longer than until it is sent."""
        if self._sent and self._body is not None and len(self._body) > self._process.replay_bytes:
            self._body = None

    # --- the response --------------------------------------------------------------------------------------------

    def informational_received(self, response: Response) -> None:
        """Pass 100 and 103 on to a client that may understand them (RFC 9110, 15.2)."""
        if self.request.minor:
            self._client.send([response.head, b"\r\n"])

    def response_received(self, response: Response, pieces: Pieces, done: bool) -> None:
        """Pass the response on, unless it refuses the credential and the request can be sent again."""
        attachment = self._attachment
        if attachment is not None:
            authorizer = self.route.authorizer
            status = response.fields.status
            refused = status in _REFUSALS and authorizer.refuses(status, safe=self.request.method.safe)
            if self._replayed:
                authorizer.replayed(attachment, accepted=not refused)
            elif refused and self._body is not None:
                self._hold(attachment, response, pieces, done=done)
                return
            elif refused:
                authorizer.invalidate(attachment)
            if response.fields.set_cookie and not refused:
                authorizer.received_cookies(attachment, response.fields.set_cookie)
        if not done:
            self._go("response")
        self._send_response(response, pieces, done)

    def _send_response(self, response: Response, pieces: Pieces, done: bool) -> None:
        self._response = response
        self._body = None
        self._status = response.fields.status
        client = self._client
        minor = self.request.minor
        if not self._body_done:
            client.keep_alive = False  # an early response: what is left of the request is not told from the next one
        head: Pieces = [response.head]
        if self._id_line and not response.fields.has_id:
            head.append(self._id_line)
        if response.fields.ends >= CHUNKED and not self.request.method.is_head:
            if minor:
                self._chunked = True
                head.append(b"Transfer-Encoding: chunked\r\n")
                pieces = framing.encode(pieces, done=done)
            else:
                client.keep_alive = False
        if not client.keep_alive:
            head.append(b"Connection: close\r\n")
        elif not minor:
            head.append(b"Connection: keep-alive\r\n")
        head.append(b"\r\n")
        client.send([*head, *pieces])
        if done:
            self._complete(response)
        else:
            self._await_more()

    def body_received(self, pieces: Pieces, done: bool) -> None:
        """Pass on more of the response's body."""
        if self._held is not None:
            self._hold_more(pieces, done=done)
            return
        response = self._response
        assert response is not None
        self._client.send(framing.encode(pieces, done=done) if self._chunked else pieces)
        if done:
            self._complete(response)
        else:
            self._await_more()

    def _await_more(self) -> None:
        self._client.deadline = self._process.monotonic() + self.route.idle_timeout

    def _complete(self, response: Response) -> None:
        now = self._process.monotonic()
        self._go("end_of_message")
        self._let_go(now, response.fields.idle_seconds)
        self._finish("upstream", now)

    def _let_go(self, now: float, idle_seconds: float) -> None:
        """Give the connection back, for others to use in the next `idle_seconds`."""
        connection = self._detach()
        if connection is None:
            return
        if idle_seconds and self._body_done:
            self.route.pool.release(connection, now, idle_seconds)
        else:
            self.route.pool.discard(connection)

    def _drop_connection(self) -> None:
        connection = self._detach()
        if connection is not None:
            self.route.pool.discard(connection)

    def _detach(self) -> UpstreamConnection | None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._upstream_is_full = False
            connection.end()
        return connection

    # --- a refused credential ------------------------------------------------------------------------------------

    def _hold(self, attachment: Attachment, response: Response, pieces: Pieces, *, done: bool) -> None:
        self._go("credential_refused")
        self._held = response, pieces, done
        if not done:
            assert self._connection is not None
            self._connection.pause(paused=True)
        else:
            # It ends here for the upstream, who may close now: that is no fault of the response's.
            self._let_go_refused(response)
        self._run(self._replace(attachment))

    def _hold_more(self, pieces: Pieces, *, done: bool) -> None:
        """Hold what was under way when reading was paused."""
        assert self._held is not None
        response, before, _ = self._held
        self._held = response, before + pieces, done
        if done:
            self._let_go_refused(response)

    def _let_go_refused(self, response: Response) -> None:
        """Give the connection back, unless a replay would stand in line behind the rest of the refused request."""
        idle_seconds = 0.0 if self._upstream_is_full else response.fields.idle_seconds
        self._let_go(self._process.monotonic(), idle_seconds)

    async def _replace(self, refused: Attachment) -> None:
        replacement: Attachment | None = None
        try:
            with self._named():
                replacement = await self.route.authorizer.replace(refused)
        except Problem:
            replacement = None  # there is no better response than the upstream's own
        if self.stage != WAIT_REPLACEMENT:
            return
        held, self._held = self._held, None
        if replacement is None or self._body is None:
            self._send_held(held)
            return
        self._drop_connection()
        self._attachment = replacement
        self._replayed = True
        self.route.stats.retries["token_refused"] += 1
        self._go("credential_replaced")
        self._connect(self._process.monotonic())

    def _send_held(self, held: HeldResponse | None) -> None:
        if held is None:
            self.fail(self._lost or UpstreamProtocolError("The upstream closed the connection in its answer."))
            return
        self._go("response")
        if self._connection is not None:
            self._connection.pause(paused=False)
        response, pieces, done = held
        self._send_response(response, pieces, done)

    # --- a tunnel ------------------------------------------------------------------------------------------------

    def protocol_switched(self, response: Response, data: bytes) -> None:
        """Pass on the end of a WebSocket's handshake (RFC 6455, 4.2.2); `data` came right behind it."""
        self._go("protocol_switched")
        self._status = _SWITCHING
        self._client.keep_alive = False
        self._client.send([response.head, b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", data])
        self._client.start_tunnel()
        self._await_more()

    def tunnel_data_received(self, data: bytes) -> None:
        """Pass on what the upstream sends."""
        self._client.send([data])
        self._await_more()

    def send_through_tunnel(self, data: bytes) -> None:
        """Pass on what the client sends."""
        if self._connection is not None:
            transport.write(self._connection.transport, data)
            self._await_more()

    def tunnel_eof_received(self) -> None:
        """End the tunnel: a WebSocket has said what it had to say in a Close frame, so that one end ends both."""
        self._end_tunnel("upstream")

    def _end_tunnel(self, source: str) -> None:
        if self.stage != SWITCHED_PROTOCOL:
            return
        self._go("end_of_message")
        connection = self._detach()
        if connection is not None:
            # What the client has sent last still goes out: close() flushes, and then ends.
            connection.transport.close()
            self.route.pool.discard(connection, close=False)
        self._finish(source, self._process.monotonic())

    # --- flow and time -------------------------------------------------------------------------------------------

    def pause_request(self, *, paused: bool) -> None:
        """Have the client send no more, because the upstream takes none for now; or go on."""
        self._upstream_is_full = paused
        self._backlog = self._unsent()
        self._client.update_reading()

    def pause_response(self, *, paused: bool) -> None:
        """Have the upstream send no more, because the client takes none for now; or go on."""
        self._backlog = self._unsent()
        if self._connection is not None and self._held is None:
            self._connection.pause(paused=paused)

    def client_ended(self) -> None:
        """The client sends nothing more (a half-close): that ends a tunnel, and a response is still sent."""
        if self.stage == SWITCHED_PROTOCOL:
            self._end_tunnel("client")
        elif self.stage == WAIT_RESPONSE:
            limit = self._process.monotonic() + self._response_timeout()
            self._client.deadline = min(self._client.deadline, limit)

    def _response_timeout(self) -> float:
        """Seconds; a route without a limit has one for a client that has ended its side: it may have gone away."""
        return self.route.abandoned_timeout if self._client.half_closed else self.route.response_timeout

    def held(self) -> int:
        """Bytes that are kept for now: of the body until a connection takes them, and of a response that is held."""
        held = sum(map(len, self._held[1])) if self._held is not None else 0
        if self._connection is not None:
            return held + self._connection.transport.get_write_buffer_size()
        return held + (len(self._body) if self._body is not None else 0)

    def _unsent(self) -> int:
        """Bytes that wait in our buffers until either side takes them."""
        connection = self._connection
        return self._client.unsent() + (connection.transport.get_write_buffer_size() if connection is not None else 0)

    def _moves(self) -> bool:
        """Whether a slow peer has taken something of what waits for it since the last look: slow is not idle."""
        before, self._backlog = self._backlog, self._unsent()
        return 0 < self._backlog < before

    def expired(self) -> None:
        """A time limit is over."""
        if self._moves():
            self._await_more()
        elif self.stage == WAIT_CONNECTION:
            if self.route.pool.is_full():
                text = "All connections to the upstream are in use; try again shortly."
                self.fail(OverloadedError(text, retry_after=1.0))
            else:
                self.fail(UpstreamUnreachableError("The upstream did not accept a connection in time."))
        elif self.stage == SWITCHED_PROTOCOL:
            self._end_tunnel("sidecar")
        elif self.stage == WAIT_RESPONSE and not self._body_done and not self._upstream_is_full:
            self._client.request_timed_out()
        else:
            self.fail(UpstreamTimeoutError("The upstream did not answer in time."))

    # --- ends ----------------------------------------------------------------------------------------------------

    def connection_lost(self) -> None:
        """Try once more where that is safe: a reused connection was closed in the same moment (RFC 9112, 9.3.1)."""
        if self._reused and not self._retried and self.request.method.idempotent and self._body is not None:
            self._retried = True
            self._drop_connection()
            self.route.stats.retries["connection_lost"] += 1
            self._go("connection_lost")
            self._connect(self._process.monotonic(), fresh=True)
        else:
            self.fail(UpstreamProtocolError("The upstream closed the connection without an answer."))

    def response_broken(self, error: Problem) -> None:
        """The response is of no use. Where it is held because it refuses a credential, another credential may be."""
        if self._held is not None:
            self._held = None
            self._drop_connection()
            self._lost = error
        else:
            self.fail(error)

    def cut_off(self) -> None:
        """The process ends first. What was sent gets no response that invites the client to send it again."""
        self.fail(DrainingError("This sidecar is shutting down.", retry_after=1.0), abruptly=self._sent)

    def fail(self, error: Problem, *, abruptly: bool = False) -> None:
        """Respond with `error` while that can be done, else end the connection so that nothing looks whole."""
        if self.stage == DONE:
            return
        abruptly = abruptly or self.stage in {SEND_BODY, SWITCHED_PROTOCOL}
        self._error = error
        self._stop("error")
        self._status = self._status or error.status
        self.route.stats.failed(error.code, self._process.wall())
        if abruptly:
            self._client.abort()
        else:
            self._client.respond(self._message(error), self.request, self._request_id())
        self._finish("sidecar", self._process.monotonic())

    def _message(self, error: Problem) -> Message:
        """Return the response that tells of `error`."""
        return problem.message(error)

    def client_disconnected(self) -> None:
        """The client's own request ends, and nothing else: never a refresh that others share."""
        if self.stage == DONE:
            return
        self._stop("client_disconnected")
        self._status = self._status or _CLIENT_GONE
        self._finish("client", self._process.monotonic())

    def _stop(self, event: str) -> None:
        self._go(event)
        self._held = None
        self._body = None
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
        self.route.pool.cancel(self)
        self._drop_connection()

    def _finish(self, source: str, now: float) -> None:
        stats = self.route.stats
        stats.in_flight -= 1
        seconds = now - self._started
        process = self._process
        if stats.finished(self.request.method.label, self._status, source, seconds):
            stats.exemplify(self.request.head, seconds, process.wall())
        if self._status >= process.logs_from or source != "upstream":
            process.exchange_ended(
                Record(
                    self.request,
                    self._status,
                    source,
                    seconds,
                    self._request_id(),
                    self._error,
                    self.client_name,
                    self._waits,
                )
            )
        self._client.exchange_done(now)

    def _request_id(self) -> str:
        """What the upstream gets as `X-Request-ID`."""
        return semantics.request_id(self._id_line or self.request.head)
