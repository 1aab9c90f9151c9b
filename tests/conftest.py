"""What every test may rely on: no other test's logging."""

from __future__ import annotations

import pytest
import structlog


@pytest.fixture(autouse=True)
def _untouched_logging() -> None:
    """Whoever configures logging (a service, a fuzzer's setup) does so for itself."""
    structlog.reset_defaults()
