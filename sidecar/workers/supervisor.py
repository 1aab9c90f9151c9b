"""The parent of the workers: binds, forks, passes signals on, and replaces a worker that dies.

It has no event loop and no thread, so that it may fork at any time. A worker ignores signals: a terminal's Ctrl-C
and systemd's SIGTERM reach the whole process group, and a worker would take the one from there and the one from here
for two. Its orders come over a socket pair, which is there before the worker is, and ends with this process.
"""

from __future__ import annotations

import gc
import os
import select
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import structlog

from sidecar import systemd
from sidecar.clock import Clock
from sidecar.config.restart import reloaded
from sidecar.config.settings import MemoryStore, Settings
from sidecar.errors import ConfigurationError, ListenError, Mistake, SidecarError
from sidecar.listeners import Listeners, bound
from sidecar.service import log_ready
from sidecar.telemetry.log_writer import WRITER
from sidecar.telemetry.logs import configure_logging
from sidecar.telemetry.sampling import SAMPLER
from sidecar.workers.worker import LoopFactory, WorkerSpec, serve

GRACE = 5.0
"""Seconds that a worker has to end after its drain, or after a second signal, before it is killed."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
FIRST_BACKOFF, LONGEST_BACKOFF, LONG_LIFE = 0.1, 30.0, 60.0
"""Seconds; a worker that dies after a long life did not die of how it starts."""
_MAX_DIRECTORY = 80
"""Bytes: a Unix socket's path has at most 107."""

_log = structlog.get_logger(__name__)


@dataclass
class Worker:
    """One worker: its process, and what is known from earlier ones. Moments are in seconds of the monotonic clock."""

    index: int
    pid: int = 0
    """0 while there is no process."""
    control: socket.socket | None = None
    """This end of the socket pair."""
    ready: bool = False
    forked_at: float = 0.0
    backoff: float = 0.0
    """Seconds between the last two processes."""
    due: float = 0.0
    """When it is to be forked."""

    def order(self, number: signal.Signals) -> None:
        """Have it do what a lone process does at this signal."""
        if self.control is not None:
            with suppress(OSError):
                self.control.send(bytes([number]))

    def receive(self) -> bool:
        """Take what it says: True that it is ready, False that it is ending."""
        with suppress(OSError):
            if self.control is not None and self.control.recv(64):
                self.ready = True
                return True
        self.close()
        return False

    def close(self) -> None:
        """Close this end of the socket pair."""
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
        """When the workers that are left are killed, on the monotonic clock; None while none is to end."""
        self._exit_code = 0

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT; the exit code.

        Raises:
            ConfigurationError: the token store cannot be shared.
            ListenError: a listener's address cannot be bound.
        """
        settings, count = self._settings, len(self._workers)
        _refuse_memory(settings, count)
        with ExitStack() as stack:
            self._wakeup = _signals_as_bytes()
            listeners = stack.enter_context(bound(settings, count))
            self._proxies = [each.proxy for each in listeners]
            self._admin, self._authorize, self._grpc = listeners[0].admin, listeners[0].authorize, listeners[0].grpc
            self._directory = stack.enter_context(_private_directory())
            gc.collect()
            gc.freeze()  # a collection in a worker would write to these pages, and so copy them
            self._watchdog = systemd.watchdog_seconds()
            while self._kill_at is None or any(worker.pid for worker in self._workers):
                systemd.notify("WATCHDOG=1") if self._watchdog is not None else None
                self._fork_due()
                self._wait()
                self._reap()
        _log.info("stopped", workers=count)
        return self._exit_code

    # --- what happens ----------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        """Wait for the next signal, worker's message, or moment to do something; and do it."""
        poller = select.poll()
        poller.register(self._wakeup, select.POLLIN)
        controls = {worker.control.fileno(): worker for worker in self._workers if worker.control is not None}
        for descriptor in controls:
            poller.register(descriptor, select.POLLIN)
        readable = [descriptor for descriptor, _ in poller.poll(self._milliseconds())]
        for descriptor in readable:
            if descriptor in controls and controls[descriptor].receive():
                self._announce()
        for number in os.read(self._wakeup, 4096) if self._wakeup in readable else b"":
            if number == signal.SIGHUP:
                self._reload()
            elif number != signal.SIGCHLD:
                self._end(signal.Signals(number))
        if self._kill_at is not None and self._clock.monotonic() >= self._kill_at:
            self._kill()

    def _milliseconds(self) -> float | None:
        """Return how long to wait for events until something is due; None: for ever."""
        if self._kill_at is not None:
            moments = [self._kill_at]
        else:
            moments = [worker.due for worker in self._workers if not worker.pid]
        if self._watchdog is not None:
            moments.append(self._clock.monotonic() + self._watchdog)
        return max(0.0, min(moments) - self._clock.monotonic()) * 1000 + 1 if moments else None

    def _announce(self) -> None:
        if not self._was_ready and all(worker.ready for worker in self._workers):
            self._was_ready = True
            listeners = Listeners(self._proxies[0], self._admin, self._authorize, self._grpc)
            log_ready(self._settings, listeners, workers=len(self._workers))

    def _reload(self) -> None:
        """Load for workers to come; those that are there do it themselves, and say what is wrong with it."""
        systemd.reloading()
        with suppress(ConfigurationError):
            self._settings, _ = reloaded(self._settings, self._load())
            configure_logging(self._settings.logging)
        for worker in self._workers:
            worker.order(signal.SIGHUP)
        systemd.notify("READY=1")

    # --- the end -----------------------------------------------------------------------------------------------------

    def _end(self, number: signal.Signals) -> None:
        """Drain at the first call, end at once at the second."""
        now = self._clock.monotonic()
        systemd.notify("STOPPING=1")
        if self._kill_at is None:
            self._kill_at = now + self._settings.drain_delay + self._settings.drain_timeout + GRACE
            for proxy in self._proxies:
                proxy.close()  # a worker that has drained must not leave a socket behind that nobody serves
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

    # --- processes ---------------------------------------------------------------------------------------------------

    def _fork_due(self) -> None:
        for worker in self._workers:
            if not worker.pid and self._kill_at is None and worker.due <= self._clock.monotonic():
                self._fork(worker)

    def _fork(self, worker: Worker) -> None:
        here, there = socket.socketpair()
        # A signal must find either this process's handlers in this process or the worker's in the worker.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            pid = os.fork()
            if pid == 0:
                here.close()
                self._become(worker, there, mask)
        except OSError as error:
            here.close()
            self._back_off(worker, 0.0)
            _log.error("no worker can be forked; trying again", worker=worker.index, error=error.strerror)
        else:
            worker.pid, worker.control, worker.ready, worker.forked_at = pid, here, False, self._clock.monotonic()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            there.close()

    def _become(self, worker: Worker, control: socket.socket, mask: set[int | signal.Signals]) -> NoReturn:
        """In the child: be this worker, and nothing of the supervisor."""
        code = 1
        try:
            systemd.forget()
            os.close(signal.set_wakeup_fd(-1))
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_DFL if number == signal.SIGCHLD else signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            self._close_inherited(worker)
            spec = WorkerSpec(
                index=worker.index,
                count=len(self._workers),
                proxy=self._proxies[worker.index],
                authorize=self._authorize,
                grpc=self._grpc,
                admin=self._admin,
                control=control,
                directory=self._directory,
                supervisor=os.getppid(),
                started_at=self._started_at,
            )
            serve(self._settings, self._load, self._clock, spec, self._loop_factory)
            code = 0
        except SidecarError as error:
            _log.error("worker failed", worker=worker.index, reason=error.detail)
        except BaseException:  # noqa: BLE001 (its last word; nobody is above it)
            _log.exception("worker failed", worker=worker.index)
        finally:
            SAMPLER.flush()
            WRITER.close()
            os._exit(code)  # what is open in the supervisor's frames is not this process's to close

    def _close_inherited(self, own: Worker) -> None:
        """Close what is not this worker's: a socket that is held here does not end for its owner's peer."""
        os.close(self._wakeup)
        for proxy in self._proxies:
            if proxy.sockets != self._proxies[own.index].sockets:
                proxy.close()
        if own.index:
            self._admin.close()
        for worker in self._workers:
            worker.close()

    def _reap(self) -> None:
        for worker in self._workers:
            if worker.pid:
                pid, status = os.waitpid(worker.pid, os.WNOHANG)
                if pid:
                    worker.close()
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
        self._back_off(worker, self._clock.monotonic() - worker.forked_at)
        _log.error("a worker died; starting another", worker=worker.index, pid=pid, **how, backoff=worker.backoff)

    def _back_off(self, worker: Worker, lived: float) -> None:
        worker.backoff = backoff(worker.backoff, lived)
        worker.due = self._clock.monotonic() + worker.backoff


def backoff(previous: float, lived: float) -> float:
    """Return the seconds until a worker is forked anew: twice the last time, so that no fault becomes a fork bomb.

    `previous` is the backoff before the life that has ended, 0 for the first; `lived` is how long it was.
    """
    return 0.0 if lived >= LONG_LIFE else min(max(FIRST_BACKOFF, 2 * previous), LONGEST_BACKOFF)


def _refuse_memory(settings: Settings, workers: int) -> None:
    if isinstance(settings.token_store, MemoryStore):
        message = f"is memory, which {workers} workers cannot share: each would ask the issuer for tokens of its own"
        cure = "set token_store.type to file or redis, or run without --workers"
        raise ConfigurationError([Mistake(settings.source, "token_store.type", message, cure)])


def _signals_as_bytes() -> int:
    """Return a file descriptor from which each signal can be read as a byte from now on."""
    wakeup, written = os.pipe()
    os.set_blocking(written, False)
    signal.set_wakeup_fd(written, warn_on_full_buffer=False)
    for number in _SIGNALS:
        signal.signal(number, lambda *_: None)
    return wakeup


@contextmanager
def _private_directory() -> Iterator[Path]:
    """Make a directory of mode 0700, and remove it at the end; in memory where a read-only root leaves no other."""
    for base in (None, "/dev/shm"):  # noqa: S108 (mkdtemp makes a directory of its own in it)
        with suppress(OSError):
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
