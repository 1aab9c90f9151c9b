"""What clients are told when there is no token, and when to come back. No secret, no issuer's address."""

from __future__ import annotations

from typing import Final

from sidecar.errors import CredentialRejectedError, Problem, TokenUnavailableError
from sidecar.tokens.events import Failure, Refuse

LEAST_RETRY_AFTER: Final = 1.0
"""Seconds."""


def problem(refuse: Refuse, credential: str, audience: str) -> Problem:
    """The error that a refusal is; its `retry_after` is when asking again can help."""
    seconds = max(LEAST_RETRY_AFTER, refuse.retry_after)
    match refuse.failure:
        case Failure.REFUSED:
            return CredentialRejectedError(
                f"The issuer refused {_named(credential, audience)}: {refuse.oauth_error}. The sidecar's log and its"
                f" status command say what to do. It asks again in {seconds:.0f} s, at SIGHUP, or as soon as the"
                " secret changes.",
                retry_after=seconds,
            )
        case Failure.THROTTLED | Failure.COOLING:
            why = f"its issuer throttles this address and is left alone for {seconds:.0f} s"
        case Failure.NO_SLOT:
            why = f"token requests are spaced, and the next slot is in {seconds:.0f} s"
        case Failure.TRANSIENT:
            why = "its issuer could not be asked, or gave none; the sidecar's log says why"
    return TokenUnavailableError(f"There is no token for {_named(credential, audience)}: {why}.", retry_after=seconds)


def too_late(credential: str, audience: str, max_wait: float, retry_after: float) -> Problem:
    """The error for a client that has waited for as long as it may."""
    return TokenUnavailableError(
        f"There was no token for {_named(credential, audience)} within {max_wait:g} s (token_requests.max_wait);"
        " the sidecar goes on trying.",
        retry_after=retry_after,
    )


def _named(credential: str, audience: str) -> str:
    return f"credential {credential}" + (f" (audience {audience})" if audience else "")
