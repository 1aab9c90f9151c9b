"""What an exchange needs of its client's connection and of the process, and what it tells when it has ended.

These are abstract classes and no Protocols, whose attributes compiled code would look up by name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

from sidecar.errors import Problem
from sidecar.proxy.framing import Pieces
from sidecar.proxy.problem import Message
from sidecar.proxy.routing import Request


class Client(ABC):
    """The connection that a request came on, as its exchange sees it."""

    deadline: float
    """When `Exchange.expired` is called, in seconds of the monotonic clock."""
    keep_alive: bool
    """Whether the connection can take another request after this one."""
    half_closed: bool
    """Whether the client has ended its side."""

    @abstractmethod
    def send(self, pieces: Pieces) -> None:
        """Write, unless the client is gone."""

    @abstractmethod
    def respond(self, message: Message, request: Request, request_id: str) -> None:
        """Answer with a message of the sidecar's own."""

    @abstractmethod
    def start_tunnel(self) -> None:
        """Hand over all that the client sends from here on by `Exchange.send_through_tunnel`."""

    @abstractmethod
    def update_reading(self) -> None:
        """Read on or stop, as `Exchange.holds_back` says."""

    @abstractmethod
    def unsent(self) -> int:
        """Bytes that wait until the client takes them."""

    @abstractmethod
    def request_timed_out(self) -> None:
        """The client stopped in the middle of its body: answer so."""

    @abstractmethod
    def abort(self) -> None:
        """End the connection so that nothing that was sent can look whole."""

    @abstractmethod
    def exchange_done(self, now: float) -> None:
        """The response is sent, or never will be; `now` is in seconds of the monotonic clock."""


class Process(ABC):
    """What is the same for all exchanges."""

    monotonic: Callable[[], float]
    """Seconds that never run backwards."""
    wall: Callable[[], float]
    """Seconds since 1970."""
    replay_bytes: int
    """The longest body, in bytes, that is kept in case that the request has to be sent again."""
    logs_from: int
    """The lowest status of an upstream's response that `exchange_ended` is told of."""

    @abstractmethod
    def request_id_line(self) -> bytes:
        """An `X-Request-ID` line that no other request has."""

    @abstractmethod
    def exchange_ended(self, record: Record) -> None:
        """Take what is told of an exchange that has ended, for the access log."""


Waits = tuple[tuple[str, float, float], ...]
"""What a request had to wait for, `token` or `connection`, from when to when, in seconds of the monotonic clock."""


class Record(NamedTuple):
    """What is told of a request at its end."""

    request: Request | None
    """None if what came was no request."""
    status: int
    """The response's; 499 where the client was gone before there was one."""
    source: str
    """Who ended it: `upstream`, `sidecar` or `client`."""
    seconds: float
    request_id: str
    error: Problem | None
    """Why the sidecar ended it."""
    client: str
    """The client's name in the configuration; empty where nobody asked who it is."""
    waits: Waits = ()
