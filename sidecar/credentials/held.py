"""What a credential holds of its files, as values that are made again when a file changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from sidecar.clock import Clock
from sidecar.config.settings import Basic, ClientCredentials, SessionLogin, StaticToken
from sidecar.credentials import static, tls
from sidecar.credentials.static import StaticAttachment
from sidecar.credentials.watched import Watched
from sidecar.secret import Secret, SecretSource, read_text

if TYPE_CHECKING:
    from sidecar.credentials.assertion import Signer


@dataclass(frozen=True, slots=True)
class ClientKey:
    """What proves the client's identity now: its secret and, for `private_key_jwt`, what signs with it."""

    secret: Secret
    signer: Signer | None = None


def password(credential: SessionLogin) -> Watched[Secret]:
    """A login's password."""
    source = credential.password
    return Watched(_name(credential.name, "password", source), (source.file,), source.read)


def attachment(credential: StaticToken | Basic) -> Watched[StaticAttachment]:
    """The header of a credential that needs no issuer."""
    match credential:
        case StaticToken():
            name, source = _name(credential.name, "token", credential.token), credential.token
            return Watched(name, (source.file,), partial(static.token_attachment, credential))
        case Basic():
            name, source = _name(credential.name, "password", credential.password), credential.password
            return Watched(name, (source.file,), partial(static.basic_attachment, credential))
        case _:
            assert_never(credential)


def client_key(credential: ClientCredentials, clock: Clock) -> Watched[ClientKey]:
    """What proves the client's identity, from whichever files its way of authentication needs."""
    files: tuple[Path | None, ...]
    load: Callable[[], ClientKey]
    match credential.client_authentication:
        case "body" | "basic":
            source = credential.client_secret or SecretSource()
            name, files = _name(credential.name, "client_secret", source), (source.file,)
            load = partial(_secret_key, source)
        case "private_key_jwt":
            key, key_password = credential.private_key, credential.private_key_password
            sources = [source for source in (key, key_password) if source is not None]
            files = (*(source.file for source in sources), credential.certificate_file)
            name = _name(credential.name, "private_key", key or SecretSource())
            load = partial(_signing_key, credential, clock)
        case "tls":
            files = tls.tls_files(credential.tls)
            name = f"credentials.{credential.name}.tls.client_key_file"
            load = partial(_certificate_key, credential)
        case _:
            assert_never(credential.client_authentication)
    return Watched(name, files, load)


def _name(credential: str, key: str, source: SecretSource) -> str:
    return f"credentials.{credential}.{key}" + ("_file" if source.file is not None else "")


def _secret_key(source: SecretSource) -> ClientKey:
    return ClientKey(source.read())


def _signing_key(credential: ClientCredentials, clock: Clock) -> ClientKey:
    from sidecar.credentials import assertion  # noqa: PLC0415 (joserfc costs who signs nothing)

    pem = (credential.private_key or SecretSource()).read_text().reveal()
    key_password = credential.private_key_password
    signer = assertion.signer(
        pem,
        password=key_password.read().reveal() if key_password is not None else None,
        algorithm=credential.assertion_algorithm,
        certificate_file=credential.certificate_file,
        key_id=credential.key_id,
        now=clock.wall(),
    )
    # The thumbprint too: a certificate that is renewed with its old key must end a quarantine as a new secret does.
    return ClientKey(Secret(pem + signer.header.get("x5t#S256", "")), signer)


def _certificate_key(credential: ClientCredentials) -> ClientKey:
    files = (credential.tls.client_key_file, credential.tls.client_certificate_file)
    return ClientKey(Secret("".join(read_text(file) for file in files if file)))
