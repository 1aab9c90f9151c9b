"""Connections to the upstream: grpcio's channels, as many as the calls under way need."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
from grpc import aio

from sidecar import background
from sidecar.config.settings import Upstream
from sidecar.telemetry.http import ConnectionCounts

PemFiles = tuple[bytes | None, bytes | None, bytes | None]
"""Authorities, client key and client certificate in PEM, in grpcio's order; None: the roots that come with grpcio, and
no certificate."""
Options = list[tuple[str, int | str]]

CALLS_PER_CHANNEL = 100
"""HTTP/2's usual limit of streams on one connection (RFC 9113, 5.1.2); over the upstream's limit calls would wait."""

_KEEPALIVE = 45_000
_KEEPALIVE_PATIENCE = 20_000
_IDLE = 120_000
_MOST_BACKOFF = 5_000


def server_options(*, max_message: int, header_bytes: int) -> Options:
    """The listener's settings, sizes in bytes."""
    return [
        # The port is reserved, and workers share it.
        ("grpc.so_reuseport", 1),
        # Clients on this machine may ping as often as they like.
        ("grpc.http2.max_ping_strikes", 0),
        *_sizes(max_message, header_bytes),
    ]


def channel_options(*, max_message: int, header_bytes: int, connect: float, proxy: str | None) -> Options:
    """A channel's settings, sizes in bytes; `connect` is the seconds that connecting may take."""
    return [
        # Zeebe's gateway refuses pings that are less than 30 s apart, and any on a connection without calls.
        ("grpc.keepalive_time_ms", _KEEPALIVE),
        ("grpc.keepalive_timeout_ms", _KEEPALIVE_PATIENCE),
        ("grpc.keepalive_permit_without_calls", 0),
        ("grpc.http2.max_pings_without_data", 0),
        # A load balancer forgets idle connections without a word, most of them after four minutes or more.
        ("grpc.client_idle_timeout_ms", _IDLE),
        # The least backoff is also the limit of one attempt to connect.
        ("grpc.min_reconnect_backoff_ms", int(connect * 1000)),
        ("grpc.initial_reconnect_backoff_ms", 500),
        ("grpc.max_reconnect_backoff_ms", _MOST_BACKOFF),
        # Channels of one target would share one connection.
        ("grpc.use_local_subchannel_pool", 1),
        # DNS is asked for addresses, and not for a service configuration with rules of its own.
        ("grpc.service_config_disable_resolution", 1),
        # The forward proxy stands in the settings; the core would read the environment for itself.
        ("grpc.enable_http_proxy", int(proxy is not None)),
        *([("grpc.http_proxy", proxy)] if proxy is not None else []),
        *_sizes(max_message, header_bytes),
    ]


def _sizes(max_message: int, header_bytes: int) -> Options:
    return [
        ("grpc.max_receive_message_length", max_message),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", header_bytes),
        ("grpc.absolute_max_metadata_size", header_bytes),
    ]


class Channel:
    """One channel, and how many calls it carries."""

    __slots__ = ("aio", "calls", "retired")

    def __init__(self, channel: aio.Channel) -> None:
        self.aio: Any = channel
        self.calls = 0
        self.retired = False

    def is_connected(self) -> bool:
        """Whether its connection stands at this moment."""
        return self.aio.get_state() is grpc.ChannelConnectivity.READY


class Channels:
    """The channels to one upstream."""

    def __init__(
        self,
        upstream: Upstream,
        options: Options,
        pem_files: Callable[[], PemFiles],
        closing: set[asyncio.Task[None]],
    ) -> None:
        """`pem_files` gives the files' content as it is now, for an https upstream.

        It raises `SecretUnavailableError` where they cannot be used. `closing` has the tasks that close channels.
        """
        host = f"[{upstream.host}]" if ":" in upstream.host else upstream.host
        self._target = f"dns:///{host}:{upstream.port}"
        self._secure = upstream.scheme == "https"
        self._options = options
        self._pem_files = pem_files
        self._used: PemFiles | None = None
        self._channels: list[Channel] = []
        self._with_room: list[Channel] = []
        """Those of them that can carry one more call."""
        self._active = 0
        """Channels that carry calls."""
        self._closing = closing

    def counts(self) -> ConnectionCounts:
        """Channels that carry calls, and that carry none: after two minutes these have no connection.

        How many are being opened is not known, for grpcio connects by itself.
        """
        return 0, self._active, len(self._channels) - self._active

    def take(self) -> Channel:
        """A channel for one more call; give it back with `release`.

        Raises:
            SecretUnavailableError: the files for TLS cannot be used.
        """
        pem_files = self._pem_files() if self._secure else None
        if pem_files != self._used:
            self.retire()
            self._used = pem_files
        if not self._with_room:
            self._with_room.append(Channel(self._open(pem_files)))
            self._channels += self._with_room
        channel = self._with_room[-1]
        self._active += not channel.calls
        channel.calls += 1
        if channel.calls == CALLS_PER_CHANNEL:
            self._with_room.pop()
        return channel

    def release(self, channel: Channel) -> None:
        """The call is over."""
        channel.calls -= 1
        if channel.retired:
            if not channel.calls:
                self._close(channel)
            return
        self._active -= not channel.calls
        if channel.calls == CALLS_PER_CHANNEL - 1:
            self._with_room.append(channel)

    def retire(self) -> None:
        """Calls under way finish; new ones get new connections."""
        for channel in self._channels:
            channel.retired = True
            if not channel.calls:
                self._close(channel)
        self._channels, self._with_room, self._active = [], [], 0

    def _open(self, pem_files: PemFiles | None) -> aio.Channel:
        if pem_files is None:
            return aio.insecure_channel(self._target, options=self._options)
        return aio.secure_channel(self._target, grpc.ssl_channel_credentials(*pem_files), options=self._options)

    def _close(self, channel: Channel) -> None:
        background.spawn("grpc", channel.aio.close(), self._closing)
