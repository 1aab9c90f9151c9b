"""What a reload does not change."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from sidecar.config.settings import Settings

NEEDS_RESTART: Final = {"listen": "listen", "admin.listen": "admin_listen", "token_store": "token_store"}
"""The settings that take effect at the next start only: the key in the file, and the field of `Settings`."""


def reloaded(running: Settings, written: Settings) -> tuple[Settings, list[str]]:
    """What is in force after a reload of `written`, and the keys whose new value has to wait for a restart."""
    kept = {field: getattr(running, field) for field in NEEDS_RESTART.values()}
    waiting = [key for key, field in NEEDS_RESTART.items() if getattr(written, field) != kept[field]]
    return replace(written, **kept), waiting
