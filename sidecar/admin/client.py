"""A client of a running sidecar's admin listener, over TCP or a Unix socket.

It needs the standard library alone, so that commands which only ask start fast.
"""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any

import msgspec

from sidecar.admin.status_model import Status
from sidecar.config.settings import Address, TcpAddress, UnixAddress
from sidecar.errors import SidecarError

MAX_ANSWER = 16 << 20
_ANY = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (compared with, not bound)


class NotRunningError(SidecarError):
    """Nobody answers at the admin listener's address."""

    hint = "Is the sidecar running, and with this configuration? Start it with: camunda-sidecar run"


class AdminError(SidecarError):
    """Something answers at the admin listener's address, but not as a sidecar does."""

    hint = "Is admin.listen another program's address?"


class _Connection(http.client.HTTPConnection):
    def __init__(self, address: Address, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._address = address

    def connect(self) -> None:
        if isinstance(self._address, UnixAddress):
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(self.timeout)
            self.sock.connect(str(self._address.path))
        else:
            self.sock = socket.create_connection((self._address.host, self._address.port), self.timeout)


def get(address: Address, path: str, *, timeout: float = 5.0) -> tuple[int, bytes]:
    """Return the status code and the body of `path`.

    Args:
        address: `admin.listen`; one that listens everywhere is asked on loopback.
        path: such as `/status`.
        timeout: in seconds, for connecting and for each read.

    Raises:
        NotRunningError: no connection, or it ended early.
        AdminError: the answer is not HTTP, or `admin.listen` has port 0: nobody knows where it listens.
    """
    connection = _Connection(_reachable(address), timeout)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read(MAX_ANSWER)
    except http.client.BadStatusLine as error:
        kind = NotRunningError if isinstance(error, http.client.RemoteDisconnected) else AdminError
        raise kind(f"The answer of {address} is not HTTP.") from None
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise NotRunningError(f"No sidecar answers at admin.listen {address}: {reason}.") from None
    except http.client.HTTPException as error:
        raise AdminError(f"The answer of {address} is not as it should be: {type(error).__name__}.") from None
    finally:
        connection.close()


def get_status(address: Address, *, timeout: float = 5.0) -> Status:
    """Return what the sidecar says of itself.

    Raises:
        NotRunningError, AdminError: see `get`; also where the answer is a refusal or no status.
    """
    code, body = get(address, "/status", timeout=timeout)
    if code != http.client.OK:
        raise AdminError(f"{address} answers /status with {code}{_detail(body)}")
    try:
        return msgspec.json.decode(body, type=Status)
    except msgspec.DecodeError:
        raise AdminError(f"What {address} answers is no sidecar's status, or another version's.") from None


def _reachable(address: Address) -> Address:
    if isinstance(address, UnixAddress):
        return address
    if address.port == 0:
        raise AdminError("admin.listen has port 0, so only the sidecar itself knows where it listens: name a port.")
    return TcpAddress(_ANY.get(address.host, address.host), address.port)


def _detail(body: bytes) -> str:
    try:
        parsed: Any = json.loads(body)
    except ValueError:
        return "."
    detail = parsed.get("detail") if isinstance(parsed, dict) else None
    return f": {detail}" if isinstance(detail, str) else "."
