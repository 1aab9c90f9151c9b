"""What `/status` says of tokens and issuers. Never a token.

Moments are seconds since 1970, durations are seconds. This module imports little, for the commands that only read it.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class TokenStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The token of one credential and audience, as requests get it."""

    credential: str
    audience: str | None = None
    issuer: str = ""
    """The token endpoint's URL, without user, query and fragment."""
    state: str
    """`none` (there is none yet), `fresh`, `stale`, `expired`, or `quarantined`: none, as the issuer refuses the
    credential."""
    issued_at: float | None = None
    """When the request was sent that brought it, by whichever process."""
    expires_at: float | None = None
    refreshes_at: float | None = None
    refused: bool = False
    """The issuer refused the credential, and has given no token since. A token from before may still serve."""
    quarantined_until: float | None = None
    """The issuer is not asked again with this credential before this moment."""
    new_secret: Literal["", "pending", "refused"] = ""
    """Whether a changed secret has no token yet, while the token of the earlier one serves."""
    new_secret_detail: str = ""
    """Why the new secret has none, in words, as far as that is known."""
    detail: str = ""
    """The issuer's refusal or the last failure, in words."""
    routes: tuple[str, ...] = ()


class IssuerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The budget of one issuer origin."""

    issuer: str
    min_interval: float
    requests: int = 0
    """Token requests that this process has sent."""
    next_slot_at: float | None = None
    cooldown_until: float | None = None
