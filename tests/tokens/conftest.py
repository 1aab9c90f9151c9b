"""No blocking call in the event loop, and keys that cost nothing where they are not the matter."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import cryptography.hazmat.primitives.ciphers.aead  # noqa: F401 (see `quick_keys`)
import pytest
from blockbuster import blockbuster_ctx

from sidecar.tokens import encryption
from sidecar.tokens.encryption import KeyRing, Keys
from sidecar.tokens.identity import Identity
from tests.tokens import support


@pytest.fixture(autouse=True)
def no_blocking_calls() -> Iterator[None]:
    """A blocking call of the product within the loop is an error."""
    with blockbuster_ctx("sidecar.tokens"):
        yield


@pytest.fixture(autouse=True)
async def close_managers() -> AsyncIterator[None]:
    """Nothing of a test runs on in the next."""
    yield
    while support.running:
        await support.running.pop().close()


@pytest.fixture
def quick_keys(monkeypatch) -> None:
    """Scrypt at its cheapest, and at once, as the import above: a thread answers at no moment of a manual clock."""

    async def keys(_ring: KeyRing, identity: Identity) -> Keys:
        return encryption.derive(identity.secret, identity.salt)

    monkeypatch.setattr(encryption, "SCRYPT_COST", 2)
    monkeypatch.setattr(encryption, "SCRYPT_LANES", 1)
    monkeypatch.setattr(KeyRing, "keys", keys)
