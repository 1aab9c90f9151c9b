"""Credentials without an issuer: what is attached, and what a refusal can do."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from sidecar.config.settings import Basic, NoCredential, StaticToken
from sidecar.credentials import static
from sidecar.credentials.file_watching import Watched
from sidecar.credentials.static import StaticAttachment, StaticAuthorizer
from sidecar.errors import SecretUnavailableError, TokenUnavailableError
from sidecar.secret import Secret, SecretSource


def token(file: Path) -> StaticAuthorizer:
    return StaticAuthorizer(
        "optimize-secret", static.attachment(StaticToken("optimize-secret", SecretSource(file=file)))
    )


def none() -> StaticAuthorizer:
    return StaticAuthorizer("none", Watched("none", (), StaticAttachment))


def secret(text: str) -> SecretSource:
    return SecretSource(value=Secret(text))


async def test_a_static_token_is_a_bearer_token(tmp_path: Path) -> None:
    """Optimize's shared secret; the attachment's `repr` does not show it."""
    file = tmp_path / "token"
    file.write_text("shared-secret\n")
    attachment = token(file).current()
    assert attachment is not None
    assert attachment.header == b"Authorization: Bearer shared-secret\r\n"
    assert attachment.unsafe_header == b""
    assert "shared-secret" not in repr(attachment)
    assert await token(file).obtain() == attachment


async def test_a_refused_token_is_replaced_by_a_newer_one_from_its_file(tmp_path: Path) -> None:
    """A 401 looks at the file at once; with the same token in it, the answer is passed on."""
    file = tmp_path / "token"
    file.write_text("first")
    authorizer = token(file)
    first = authorizer.current()
    assert first is not None
    assert await authorizer.replace(first) is None
    file.write_text("second-one")
    second = await authorizer.replace(first)
    assert second is not None
    assert second.header == b"Authorization: Bearer second-one\r\n"
    assert authorizer.current() is second


async def test_a_token_that_cannot_be_read_is_unavailable(tmp_path: Path) -> None:
    """Never forwarded without: 503 until the file is there."""
    authorizer = token(tmp_path / "missing")
    assert authorizer.current() is None
    with pytest.raises(TokenUnavailableError, match="optimize-secret"):
        await authorizer.obtain()


@pytest.mark.parametrize("content", ["Bearer abc", "a b", "tökén"])
def test_a_token_that_is_no_token_is_said(content: str) -> None:
    """What could not stand in a header, or has the scheme in it already."""
    with pytest.raises(SecretUnavailableError, match="bare token"):
        _ = static.attachment(StaticToken("x", secret(content))).value


def test_basic_is_encoded_as_utf_8() -> None:
    """RFC 7617, 2.1; a password may have a colon."""
    attachment = static.attachment(Basic("run", "demo", secret("pä:ss"))).value
    encoded = attachment.header.removeprefix(b"Authorization: Basic ").removesuffix(b"\r\n")
    assert base64.b64decode(encoded).decode() == "demo:pä:ss"


@pytest.mark.parametrize(("status", "safe", "refused"), [(401, True, True), (401, False, True), (403, False, False)])
def test_what_counts_as_refused(tmp_path: Path, status: int, safe: bool, refused: bool) -> None:
    """401 for what has a credential; nothing for none."""
    assert token(tmp_path / "x").refuses(status, safe=safe) is refused
    assert none().refuses(status, safe=safe) is False


async def test_none_attaches_nothing() -> None:
    """Forwarded as it is."""
    authorizer = none()
    attachment = authorizer.current()
    assert attachment is not None
    assert (attachment.header, attachment.unsafe_header) == (b"", b"")
    assert await authorizer.obtain() is attachment
    assert await authorizer.replace(attachment) is None
    assert NoCredential("x").name == "x"
