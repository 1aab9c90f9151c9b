"""What a reload does not change."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from sidecar.config.settings import Grpc, Settings

NEEDS_RESTART: Final = {
    "listen": "listen",
    "admin.listen": "admin",
    "authorize.listen": "authorize",
    "token_store": "token_store",
}
"""The settings that take effect at the next start only: the key in the file, and the field of `Settings`."""

GRPC_NEEDS_RESTART: Final = ("listen", "max_message")
"""Those in the section `grpc`, and the section itself where there was none."""


def reloaded(running: Settings, written: Settings) -> tuple[Settings, list[str]]:
    """What is in force after a reload of `written`, and the keys whose new value has to wait for a restart."""
    kept = {field: getattr(running, field) for field in NEEDS_RESTART.values()}
    kept["admin"] = replace(written.admin, listen=running.admin.listen)
    waiting = [key for key, field in NEEDS_RESTART.items() if getattr(written, field) != kept[field]]
    grpc, grpc_waiting = _grpc(running.grpc, written.grpc)
    return replace(written, **kept, grpc=grpc), [*waiting, *grpc_waiting]


def _grpc(running: Grpc | None, written: Grpc | None) -> tuple[Grpc | None, list[str]]:
    """A listener can be closed by a reload, and not opened."""
    if running is None or written is None:
        return None, ["grpc"] if written is not None else []
    kept = {field: getattr(running, field) for field in GRPC_NEEDS_RESTART}
    return replace(written, **kept), [f"grpc.{field}" for field in kept if getattr(written, field) != kept[field]]
