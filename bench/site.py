"""What every peer is given: the same routes to the same origins, the same CA, the same issuer, the same token."""

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme

HOST = "127.0.0.1"
NAME = "localhost"
"""What the origin's certificate says, and what peers must verify."""
BASE_PATH = "/c1"
"""The path at the origin that a route's prefix is replaced by; the origin answers 404 elsewhere."""
BIG = 100_000_000
SMALL = (
    b'{"clusterSize":3,"partitionsCount":3,"replicationFactor":3,"gatewayVersion":"8.9.0","brokers":['
    + b",".join(
        b'{"nodeId":%d,"host":"camunda-%d.camunda","port":26501,"version":"8.9.0"}' % (node, node) for node in range(3)
    )
    + b"]}"
)
"""The small answer."""


@dataclass(frozen=True, slots=True)
class Route:
    """A prefix that leads to `BASE_PATH` of an origin on the loopback."""

    name: str
    port: int
    tls: bool

    @property
    def prefix(self) -> str:
        return f"/{self.name}"

    @property
    def authority(self) -> str:
        return f"{NAME}:{self.port}"


@dataclass(frozen=True, slots=True)
class Site:
    """One run's facts."""

    directory: Path
    ca_file: Path
    certificate_file: Path
    key_file: Path
    token: str
    client_id: str
    client_secret: str
    issuer_port: int
    routes: tuple[Route, ...]

    @property
    def token_url(self) -> str:
        return f"http://{HOST}:{self.issuer_port}/oauth/token"

    def route(self, name: str) -> Route:
        return next(route for route in self.routes if route.name == name)


def make_certificates(directory: Path) -> tuple[Path, Path, Path]:
    """A CA of this run, and a certificate with its key for `NAME`; all are of no use after a day."""
    authority = trustme.CA()
    leaf = authority.issue_cert(NAME, not_after=datetime.now(UTC) + timedelta(days=1))
    ca_file, certificate_file, key_file = (directory / name for name in ("ca.pem", "origin.pem", "origin.key"))
    authority.cert_pem.write_to_path(ca_file)
    leaf.private_key_pem.write_to_path(key_file)
    certificate_file.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    return ca_file, certificate_file, key_file


def make_token() -> str:
    """As long as the RS256 JWTs that Camunda's login service gives out; opaque, so that nobody parses it."""
    return secrets.token_urlsafe(750)
