"""The parent of the workers: binds, forks, passes signals on, replaces who dies. No event loop, no thread.

So forking is safe at any time. A worker heeds no signals itself: a terminal's Ctrl-C and systemd's SIGTERM reach the
whole group, and a worker would take the one from there and the one from here for two. Its orders come over a socket
pair, which is there before the worker is, and ends when this process dies.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

import structlog

from sidecar import __version__
from sidecar.clock import Clock
from sidecar.config.settings import MemoryStore, Settings
from sidecar.errors import ConfigurationError, ListenError, Mistake, SidecarError
from sidecar.telemetry.log_writer import WRITER
from sidecar.telemetry.logs import configure_logging
from sidecar.workers.pause import next_pause
from sidecar.workers.sockets import bind_listeners
from sidecar.workers.worker import LoopFactory, Seat, serve

GRACE = 5.0
"""Seconds that a worker has to end after its drain, or after a second signal, before it is killed."""
_HEEDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
_MAX_DIRECTORY = 80
"""Bytes: a Unix socket's path has at most 107."""

_log = structlog.get_logger(__name__)


@dataclass
class Worker:
    """One worker, through all its lives."""

    index: int
    pid: int = 0
    """0 between two lives."""
    control: socket.socket | None = None
    ready: bool = False
    forked_at: float = 0.0
    pause: float = 0.0
    due: float = 0.0
    """When it is to be forked, on the monotonic clock."""

    def order(self, number: signal.Signals) -> None:
        """Have it do what a lone process does at this signal."""
        if self.control is not None:
            with contextlib.suppress(OSError):
                self.control.send(bytes([number]))

    def has_answered(self) -> bool:
        """Whether what came from it is its word that it is ready; if not, it is ending."""
        assert self.control is not None
        with contextlib.suppress(OSError):
            if self.control.recv(64):
                return True
        self.hang_up()
        return False

    def hang_up(self) -> None:
        """Nothing more will be said to this life."""
        if self.control is not None:
            self.control.close()
            self.control = None


class Supervisor:
    """One sidecar of several processes."""

    def __init__(
        self, settings: Settings, load: Callable[[], Settings], workers: int, clock: Clock, loop_factory: LoopFactory
    ) -> None:
        """`load` reads the configuration anew, for a reload; it raises `ConfigurationError`."""
        self._settings = settings
        self._load = load
        self._workers = [Worker(index) for index in range(workers)]
        self._clock = clock
        self._loop_factory = loop_factory
        self._started_at = clock.wall()
        self._was_ready = False
        self._kill_at: float | None = None
        """When patience with the workers ends; not None: all is to end."""
        self._exit_code = 0

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT; the exit code.

        Raises:
            ConfigurationError: the token store cannot be shared.
            ListenError: a listener's address cannot be bound.
        """
        _refuse_memory(self._settings, len(self._workers))
        with ExitStack() as stack:
            self._wakeup = _heed_signals()
            self._listeners = bind_listeners(self._settings, len(self._workers), stack)
            self._directory = stack.enter_context(_private_directory())
            gc.collect()
            gc.freeze()  # a collection in a worker would write to these pages, and so copy them
            while self._kill_at is None or any(worker.pid for worker in self._workers):
                self._fork_due()
                self._heed()
                self._bury_dead()
        _log.info("stopped", workers=len(self._workers))
        return self._exit_code

    # --- what happens ----------------------------------------------------------------------------------------------

    def _heed(self) -> None:
        """Wait for the next signal, worker's word, or moment to do something; and do it."""
        poller = select.poll()
        poller.register(self._wakeup, select.POLLIN)
        speakers = {worker.control.fileno(): worker for worker in self._workers if worker.control is not None}
        for descriptor in speakers:
            poller.register(descriptor, select.POLLIN)
        heard = [descriptor for descriptor, _ in poller.poll(self._milliseconds())]
        for worker in (speakers[descriptor] for descriptor in heard if descriptor in speakers):
            if worker.has_answered():
                worker.ready = True
                self._announce()
        for number in os.read(self._wakeup, 4096) if self._wakeup in heard else b"":
            if number == signal.SIGHUP:
                self._reload()
            elif number != signal.SIGCHLD:
                self._end(signal.Signals(number))
        if self._kill_at is not None and self._clock.monotonic() >= self._kill_at:
            self._kill()

    def _milliseconds(self) -> float | None:
        """Until there is something to do without being told; None: never."""
        if self._kill_at is not None:
            moments = [self._kill_at]
        else:
            moments = [worker.due for worker in self._workers if not worker.pid]
        return max(0.0, min(moments) - self._clock.monotonic()) * 1000 + 1 if moments else None

    def _announce(self) -> None:
        if not self._was_ready and all(worker.ready for worker in self._workers):
            self._was_ready = True
            _log.info(
                "ready",
                version=__version__,
                configuration=self._settings.source,
                listen=str(self._listeners.listen),
                admin=str(self._listeners.admin),
                routes=len(self._settings.routes),
                workers=len(self._workers),
            )

    def _reload(self) -> None:
        """For workers to come, here; those that are there do it themselves, and say what is wrong with it."""
        old = self._settings
        with contextlib.suppress(ConfigurationError):
            new = self._load()
            self._settings = replace(
                new, listen=old.listen, admin_listen=old.admin_listen, token_store=old.token_store
            )  # which take effect at the next start only
            configure_logging(new.logging)
        for worker in self._workers:
            worker.order(signal.SIGHUP)

    # --- the end -----------------------------------------------------------------------------------------------------

    def _end(self, number: signal.Signals) -> None:
        """Drain at the first call, end at once at the second."""
        now = self._clock.monotonic()
        if self._kill_at is None:
            self._kill_at = now + self._settings.drain_delay + self._settings.drain_timeout + GRACE
            self._listeners.close_shares()  # who has drained must not leave a socket behind that nobody serves
        else:
            self._kill_at = min(self._kill_at, now + GRACE)
        for worker in self._workers:
            worker.order(number)

    def _kill(self) -> None:
        for worker in self._workers:
            if worker.pid:
                _log.error("worker does not end; killing it", worker=worker.index, pid=worker.pid)
                os.kill(worker.pid, signal.SIGKILL)
        self._kill_at = self._clock.monotonic() + GRACE

    # --- births and deaths -------------------------------------------------------------------------------------------

    def _fork_due(self) -> None:
        for worker in self._workers:
            if not worker.pid and self._kill_at is None and worker.due <= self._clock.monotonic():
                self._fork(worker)

    def _fork(self, worker: Worker) -> None:
        here, there = socket.socketpair()
        # A signal must find either this process's handlers in this process or the worker's in the worker.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _HEEDED)
        try:
            pid = os.fork()
            if pid == 0:
                here.close()
                self._become(worker, there, mask)
        except OSError as error:
            here.close()
            worker.pause = next_pause(worker.pause, 0.0)
            worker.due = self._clock.monotonic() + worker.pause
            _log.error("no worker can be forked; trying again", worker=worker.index, error=error.strerror)
        else:
            worker.pid, worker.control, worker.ready, worker.forked_at = pid, here, False, self._clock.monotonic()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            there.close()

    def _become(self, worker: Worker, control: socket.socket, mask: set[int | signal.Signals]) -> NoReturn:
        """In the child: this worker, and nothing of the supervisor."""
        code = 1
        try:
            os.close(signal.set_wakeup_fd(-1))
            for number in _HEEDED:
                signal.signal(number, signal.SIG_DFL if number == signal.SIGCHLD else signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            self._let_go(worker)
            count = len(self._workers)
            seat = Seat(worker.index, count, self._listeners, control, self._directory, os.getppid(), self._started_at)
            serve(self._settings, self._load, self._clock, seat, self._loop_factory)
            code = 0
        except SidecarError as error:
            _log.error("worker failed", worker=worker.index, reason=error.detail)
        except BaseException:  # noqa: BLE001 (its last word; nobody is above it)
            _log.exception("worker failed", worker=worker.index)
        finally:
            WRITER.close()
            os._exit(code)  # what is open in the supervisor's frames is not this process's to close

    def _let_go(self, own: Worker) -> None:
        """Close what is not this worker's: an end that is held here never comes for the others."""
        os.close(self._wakeup)
        share = self._listeners.shares[own.index]
        others = [sock for each in self._listeners.shares for sock in each if sock not in share]
        for sock in others if own.index == 0 else [*others, *self._listeners.admin_sockets]:
            sock.close()
        for worker in self._workers:
            worker.hang_up()

    def _bury_dead(self) -> None:
        for worker in self._workers:
            if worker.pid:
                pid, status = os.waitpid(worker.pid, os.WNOHANG)
                if pid:
                    worker.hang_up()
                    worker.pid = 0
                    self._died(worker, pid, os.waitstatus_to_exitcode(status))

    def _died(self, worker: Worker, pid: int, code: int) -> None:
        if self._kill_at is not None:
            self._exit_code = self._exit_code or int(code != 0)
            return
        how = {"signal": signal.Signals(-code).name} if code < 0 else {"code": code}
        if not self._was_ready:
            _log.error("a worker did not start; ending", worker=worker.index, pid=pid, **how)
            self._exit_code = 1
            self._end(signal.SIGTERM)
            return
        now = self._clock.monotonic()
        worker.pause = next_pause(worker.pause, now - worker.forked_at)
        worker.due = now + worker.pause
        _log.error("a worker died; starting another", worker=worker.index, pid=pid, **how, pause=worker.pause)


def _refuse_memory(settings: Settings, workers: int) -> None:
    if isinstance(settings.token_store, MemoryStore):
        raise ConfigurationError(
            [
                Mistake(
                    settings.source,
                    "token_store.type",
                    f"is memory, which {workers} workers cannot share: each would ask the issuer for tokens of its own",
                    "set token_store.type to file or redis, or run without --workers",
                )
            ]
        )


def _heed_signals() -> int:
    """From now on each signal is a byte in this file descriptor."""
    wakeup, wakes = os.pipe()
    os.set_blocking(wakes, False)
    signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    for number in _HEEDED:
        signal.signal(number, lambda *_: None)
    return wakeup


@contextlib.contextmanager
def _private_directory() -> Iterator[Path]:
    """A directory of mode 0700 that is removed at the end; in memory where a read-only root leaves no other."""
    for base in (None, "/dev/shm"):  # noqa: S108 (mkdtemp makes a directory of one's own in it)
        with contextlib.suppress(OSError):
            directory = Path(tempfile.mkdtemp(prefix="camunda-sidecar-", dir=base))
            if len(os.fsencode(directory)) <= _MAX_DIRECTORY:
                break
            directory.rmdir()
    else:
        raise ListenError("The workers' admin sockets need a directory that can be written to: name one in TMPDIR.")
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
