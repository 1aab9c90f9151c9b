import asyncio
from contextlib import asynccontextmanager

from sidecar.admin.readiness import Readiness
from sidecar.admin.server import AdminServer
from sidecar.admin.status_model import RouteStatus, Status, StoreStatus, TokenStatus
from sidecar.admin.view import OwnView
from sidecar.clock import SystemClock
from sidecar.config.settings import TcpAddress
from sidecar.errors import UnknownHostError
from sidecar.listener import listening
from sidecar.telemetry.history import Recent
from sidecar.telemetry.http import HttpStats
from sidecar.telemetry.metrics import Metrics
from tests.telemetry.support import ManualClock

LOOPBACK = TcpAddress("127.0.0.1", 0)
CONNECTIONS = 16


class LocalhostOnly:
    """A guard that knows one name."""

    def refusal(self, host, authority, values):
        return None if host in {b"localhost", b"127.0.0.1"} else ("host", UnknownHostError("Not a name of mine."))


def status(**changes) -> Status:
    given = {
        "pid": 4711,
        "version": "0.1.0",
        "started_at": 1_800_000_000.0,
        "uptime": 60.0,
        "ready": True,
        "listen": "127.0.0.1:8600",
        "admin": "127.0.0.1:8601",
        "configuration": "/etc/camunda-sidecar/config.yaml",
        "store": StoreStatus(type="memory"),
        "routes": (RouteStatus(name="operate", prefix="/operate", upstream="http://u", credential="cluster"),),
        "tokens": (
            TokenStatus(credential="cluster", audience="operate.camunda.io", state="fresh", routes=("operate",)),
        ),
    }
    return Status(**{**given, **changes})


@asynccontextmanager
async def serving(
    listen=LOOPBACK,
    *,
    registry=None,
    readiness=None,
    status=status,
    recent=lambda since: Recent(),
    view=None,
    guard=None,
    connections=CONNECTIONS,
):
    """A running admin server."""
    own = OwnView(registry or Metrics(HttpStats(), ManualClock()).registry, readiness or Readiness(), status, recent)
    with listening("admin.listen", listen) as [listener]:
        running = AdminServer(
            listener, view(own) if view else own, guard or LocalhostOnly(), connections, SystemClock()
        )
        await running.start()
        try:
            yield running
        finally:
            await running.close()


async def ask(running: AdminServer, head: str) -> tuple[int, dict[str, str], bytes]:
    """Send `head` (lines, without the blank one) and read until the end: status, fields, body."""
    reader, writer = await connect(running)
    writer.write(head.encode().replace(b"\n", b"\r\n") + b"\r\nConnection: close\r\n\r\n")
    raw = await reader.read()
    writer.close()
    top, _, body = raw.partition(b"\r\n\r\n")
    first, *rest = top.decode().split("\r\n")
    fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in rest)}
    return int(first.split()[1]), fields, body


async def connect(running: AdminServer) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if isinstance(running.address, TcpAddress):
        return await asyncio.open_connection(running.address.host, running.address.port)
    return await asyncio.open_unix_connection(running.address.path)
