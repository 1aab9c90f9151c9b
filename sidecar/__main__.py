"""The first moments of `camunda-sidecar` and `python -m sidecar`, before anything slow is imported."""

import os
import signal
import sys


def main() -> None:
    """Run the command that the arguments name."""
    if os.name == "nt":
        sys.exit("camunda-sidecar: Windows lacks the file locks and signals that it needs: use WSL 2 or a container")
    _open_standard_streams()
    if sys.argv[1:2] == ["run"]:
        _handle_early_signals()
    from sidecar.cli import main as run_command  # noqa: PLC0415 (only now: it takes a while)

    run_command(prog_name="camunda-sidecar")


def _open_standard_streams() -> None:
    """Put /dev/null in the place of a closed one: else a socket would get its number, and log lines with it."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free, which is this one


def _handle_early_signals() -> None:
    """Until the service takes over: nothing is served yet, so ending is done, and what a reload would read is read.

    As the first process of a container it would not end without a handler.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))


if __name__ == "__main__":
    main()
