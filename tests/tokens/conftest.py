"""No blocking call in the event loop, and keys that cost nothing where they are not the matter."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from blockbuster import blockbuster_ctx

from sidecar.secret import Secret
from sidecar.tokens import sealing
from sidecar.tokens.sealing import KeyRing, Keys
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
    """Scrypt at its cheapest, and at once: a thread's answer would come at no moment of a manual clock."""

    async def keys(_ring: KeyRing, secret: Secret, salt: bytes) -> Keys:
        return sealing.derive(secret, salt)

    monkeypatch.setattr(sealing, "SCRYPT_COST", 2)
    monkeypatch.setattr(sealing, "SCRYPT_LANES", 1)
    monkeypatch.setattr(KeyRing, "keys", keys)
