"""The configuration: what the user wrote becomes frozen settings. Only this package reads YAML and the environment.

`load(config, environ)` reads it all, `admin_address(config, environ)` only where a running sidecar can be asked
(`load.py`); `json_schema()` describes what may be written (`schema.py`).
"""

from typing import Any

from sidecar.config.load import admin_address, load

__all__ = ["admin_address", "json_schema", "load"]


def json_schema() -> dict[str, Any]:
    """Return a JSON Schema (2020-12) of the configuration file."""
    from sidecar.config import schema  # noqa: PLC0415 (a running sidecar does not need it)

    return schema.json_schema()
