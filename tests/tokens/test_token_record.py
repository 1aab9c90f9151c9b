"""What one process writes beside others."""

from __future__ import annotations

import pytest

from sidecar.tokens.token_record import PutToken, TokenRecord, apply
from tests.tokens.states import token

OLD, NEW = token("old", born=1000.0), token("new", born=1100.0)


@pytest.mark.parametrize(
    ("record", "put", "kept"),
    [
        (TokenRecord(), OLD, OLD),
        (TokenRecord(OLD), NEW, NEW),
        (TokenRecord(NEW), OLD, NEW),  # this process was stopped with it in its hand
        (TokenRecord(None, ("new",)), NEW, None),  # an upstream has refused it meanwhile
        (TokenRecord(OLD, ("new",)), NEW, OLD),
    ],
)
def test_the_better_token_stays(record, put, kept) -> None:
    """The one that lives longer, and none that an upstream refused, in whatever order processes write."""
    assert apply(record, PutToken(put)).token == kept
