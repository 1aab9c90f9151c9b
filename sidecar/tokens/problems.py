"""What clients are told when there is no token, and when to come back. No secret, no issuer's address."""

from __future__ import annotations

from typing import Final, assert_never

from sidecar.errors import CredentialRejectedError, Problem, TokenUnavailableError
from sidecar.tokens.commands import Refuse
from sidecar.tokens.events import Failure
from sidecar.tokens.identity import Labels

LEAST_RETRY_AFTER: Final = 1.0
"""Seconds."""


def problem(refuse: Refuse, labels: Labels) -> Problem:
    """The error that a refusal is; its `retry_after` is when asking again can help."""
    seconds = max(LEAST_RETRY_AFTER, refuse.retry_after)
    match refuse.failure:
        case Failure.REFUSED:
            return CredentialRejectedError(
                f"The issuer refused {labels}: {refuse.oauth_error}. The sidecar's log and its status command say what"
                f" to do. It asks again in {seconds:.0f} s, at SIGHUP, or as soon as the secret changes.",
                retry_after=seconds,
            )
        case Failure.THROTTLED | Failure.COOLING:
            why = f"its issuer throttles this address and is left alone for {seconds:.0f} s"
        case Failure.NO_SLOT:
            why = f"token requests are spaced, and the next slot is in {seconds:.0f} s"
        case Failure.NO_TURN:
            why = (
                "the token store cannot be reached, so that this process asks the issuer in its turn alone, in"
                f" {seconds:.0f} s"
            )
        case Failure.TRANSIENT:
            why = "its issuer could not be asked, or gave none; the sidecar's log says why"
        case Failure.NOT_SHARED:
            why = "the token store cannot be written to, so that the issuer is not asked"
        case _:
            assert_never(refuse.failure)
    return TokenUnavailableError(f"There is no token for {labels}: {why}.", retry_after=seconds)


def too_late(labels: Labels, max_wait: float, interval: float) -> Problem:
    """The error for a client that has waited for as long as it may; `interval` is the issuer's. Both in seconds."""
    return TokenUnavailableError(
        f"There was no token for {labels} within {max_wait:g} s (token_requests.max_wait); the sidecar goes on trying.",
        retry_after=max(LEAST_RETRY_AFTER, interval),
    )
