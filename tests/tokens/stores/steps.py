"""A process that changes a record, and is killed or stopped at one of its steps: each call that it makes to the system.

    python -m tests.tokens.stores.steps DIRECTORY ACTION STEP

ACTION is `count` (only tell how many steps there are), `kill` or `stop`; it happens just before the step's call.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

from sidecar.clock import SystemClock
from sidecar.tokens.stores import versioned_files
from sidecar.tokens.stores.versioned_files import VersionedFiles

CALLS = ("open", "fstat", "read", "write", "fchmod", "close", "link", "unlink", "stat", "listdir")


def increment(record, _now) -> bytes:
    """One more."""
    return str(int(record.data if record and not record.damaged else b"0") + 1).encode()


class Steps:
    """Counts the calls, and acts before one of them."""

    def __init__(self, action: str, step: int) -> None:
        self.action = action
        self.step = step
        self.taken = 0

    def wrap(self, call):
        def counted(*positional, **named):
            self.taken += 1
            if self.taken == self.step and self.action != "count":
                os.kill(os.getpid(), signal.SIGKILL if self.action == "kill" else signal.SIGSTOP)
            return call(*positional, **named)

        return counted


def main(directory: str, action: str, step: str) -> None:
    """Change the record once."""
    store = VersionedFiles(Path(directory), None, SystemClock())
    steps = Steps(action, int(step))
    wrapped = {name: steps.wrap(getattr(os, name)) for name in CALLS}
    versioned_files.os = SimpleNamespace(**{**vars(os), **wrapped})
    store.update("counter", increment)
    sys.stdout.write(str(steps.taken))


if __name__ == "__main__":
    main(*sys.argv[1:])
