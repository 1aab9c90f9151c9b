"""What the user wrote becomes frozen settings; the only room that reads YAML and the environment.

`load(config, environ)` is the one door (`load.py`); `json_schema()` describes what may be written (`schema.py`).
"""

from sidecar.config.load import load

__all__ = ["load"]
