"""One token request with its attempts: it is given what it needs, and returns what happened."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, Final, TypeVar

import structlog

from sidecar.clock import Clock
from sidecar.errors import GrantError, GrantRefusedError, GrantThrottledError, TokenUnavailableError
from sidecar.tokens.events import Failure, Fetched, FetchFailed
from sidecar.tokens.grant import Grant, GrantSource
from sidecar.tokens.identity import Labels
from sidecar.tokens.issuer_budget import AttemptSlots, NoSlotError, NotSharedError, SupersededError
from sidecar.tokens.token_record import NEVER, Token, new_version

log = structlog.get_logger(__name__)

T = TypeVar("T")

MOST_LIFETIME: Final = 24 * 3600.0
"""Seconds."""


async def fetch(
    source: GrantSource, slots: AttemptSlots, clock: Clock, labels: Labels, *, attempts: int, limit: float
) -> Fetched | FetchFailed | None:
    """What the issuer says within `limit` seconds; None: another process was faster. What went wrong is logged."""
    asked = clock.boottime()
    try:
        grant = await within(clock, limit, source.fetch(slots, attempts=attempts))
    except SupersededError:
        return None
    except NotSharedError as error:
        log.warning("no token request beside those that share the token store", **labels.context(), detail=error.detail)
        return FetchFailed(Failure.NOT_SHARED, detail=error.detail)
    except NoSlotError as error:
        retry_after = error.retry_after or 0.0
        if slots.attempts:  # the attempts before this one failed at something else
            return FetchFailed(Failure.TRANSIENT, retry_after)
        log.info("no slot for a token request in time", **labels.context(), retry_after=retry_after)
        return FetchFailed(error.failure, retry_after)
    except GrantThrottledError as error:
        slots.ended("throttled")
        return FetchFailed(Failure.THROTTLED, error.retry_after or 0.0, detail=error.detail)
    except GrantRefusedError as error:
        slots.ended("refused")
        return FetchFailed(Failure.REFUSED, oauth_error=error.oauth_error, detail=error.detail)
    except (GrantError, TokenUnavailableError, TimeoutError) as error:
        detail = error.detail if isinstance(error, GrantError | TokenUnavailableError) else "It took too long."
        log.warning("a token request failed", **labels.context(), detail=detail)
        return FetchFailed(Failure.TRANSIENT, slots.free_in(), detail=detail)
    else:
        slots.ended("success")
        born = slots.sent_at if slots.sent_at > NEVER else asked
        seconds = round(clock.boottime() - born, 3)
        log.info("token obtained", **labels.context(), lifetime=grant.lifetime, seconds=seconds)
        return Fetched(Token(new_version(), bounded(grant), born))
    finally:
        slots.ended("failed")  # if nothing else has been said of the attempt


def bounded(grant: Grant) -> Grant:
    """The grant with a lifetime of at most a day, whatever its maker says."""
    lifetime = grant.lifetime if math.isfinite(grant.lifetime) else MOST_LIFETIME
    return replace(grant, lifetime=min(MOST_LIFETIME, max(0.0, lifetime)))


async def within(clock: Clock, seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """The work's result.

    Raises:
        TimeoutError: it took longer, by this clock; the work is cancelled.
    """
    task = asyncio.get_running_loop().create_task(work)
    try:
        if not await ends_within(clock, seconds, task):
            raise TimeoutError
        return task.result()
    finally:
        task.cancel()


async def ends_within(clock: Clock, seconds: float, task: asyncio.Task[T]) -> bool:
    """Whether the task ends within so many seconds, by this clock; it goes on if not."""
    timer = asyncio.get_running_loop().create_task(clock.sleep(seconds))
    try:
        await asyncio.wait({task, timer}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        timer.cancel()
    return task.done()
