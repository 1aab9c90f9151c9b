"""grpcio is an extra: whether it is there, and what is said where it is not."""

from __future__ import annotations

import importlib.util

GRPC_PORT = 26500
"""Where clients of Zeebe's gRPC look by themselves."""
GRPC_MISSING = "needs grpcio, which is not installed"
GRPC_CURE = "pip install 'camunda-sidecar[grpc]'"


def has_grpc() -> bool:
    """Tell whether grpcio is installed, without importing it: that takes longer than loading a configuration."""
    return importlib.util.find_spec("grpc") is not None
