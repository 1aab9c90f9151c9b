"""What a credential proves itself with, as values that are made again when their files change."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, assert_never

from sidecar.clock import Clock
from sidecar.config.settings import Basic, ClientCredentials, SessionLogin, StaticToken
from sidecar.credentials import static, tls
from sidecar.credentials.file_watching import Watched
from sidecar.credentials.static import StaticAttachment
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
    return Watched(_name(credential.name, "password", source), [source.file], source.read)


def attachment(credential: StaticToken | Basic) -> Watched[StaticAttachment]:
    """The header of a credential that needs no issuer."""
    match credential:
        case StaticToken(name=name, token=source):
            return Watched(_name(name, "token", source), [source.file], partial(static.token_attachment, credential))
        case Basic(name=name, password=source):
            return Watched(_name(name, "password", source), [source.file], partial(static.basic_attachment, credential))
        case _:
            assert_never(credential)


def client_key(credential: ClientCredentials, clock: Clock) -> Watched[ClientKey]:
    """What proves the client's identity, from the files that its way of authentication needs."""
    match credential.client_authentication:
        case "body" | "basic":
            source = credential.client_secret or SecretSource()
            name = _name(credential.name, "client_secret", source)
            return Watched(name, [source.file], lambda: ClientKey(source.read()))
        case "private_key_jwt":
            key, key_password = credential.private_key or SecretSource(), credential.private_key_password
            password_file = key_password.file if key_password is not None else None
            files = (key.file, password_file, credential.certificate_file)
            return Watched(
                _name(credential.name, "private_key", key), files, partial(_signing_key, credential, key, clock)
            )
        case "tls":
            name = f"credentials.{credential.name}.tls.client_key_file"
            return Watched(name, tls.files(credential.tls), partial(_certificate_key, credential))
        case _:
            assert_never(credential.client_authentication)


def _name(credential: str, key: str, source: SecretSource) -> str:
    return f"credentials.{credential}.{key}" + ("_file" if source.file is not None else "")


def _signing_key(credential: ClientCredentials, key: SecretSource, clock: Clock) -> ClientKey:
    from sidecar.credentials import assertion  # noqa: PLC0415 (joserfc costs who signs nothing)

    text, key_password = key.read_text().reveal(), credential.private_key_password
    signer = assertion.signer(
        text,
        password=key_password.read().reveal() if key_password is not None else None,
        algorithm=credential.assertion_algorithm,
        certificate_file=credential.certificate_file,
        key_id=credential.key_id,
        now=clock.wall(),
    )
    # The thumbprint too: a certificate that is renewed with its old key must end a quarantine as a new secret does.
    return ClientKey(Secret(text + signer.header.get("x5t#S256", "")), signer)


def _certificate_key(credential: ClientCredentials) -> ClientKey:
    files = (credential.tls.client_key_file, credential.tls.client_certificate_file)
    return ClientKey(Secret("".join(read_text(file) for file in files if file)))
