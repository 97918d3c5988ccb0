"""Calls in other processes: one that crashes, hangs or is killed is an outcome, and no other call notices.

TVM's own pool is not used. It starts processes again for what is left when it is shut down, waits there for calls under
way, and cannot stop one that holds the interpreter's lock; and Ctrl-C would reach its processes as well.
"""

from __future__ import annotations

import contextlib
import pickle
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import Any, Generic, TypeVar

START_SECONDS = 120
"""For a process to start and to import what the function needs."""

Argument = TypeVar("Argument")
Result = TypeVar("Result")

_PROGRAM = "import sys; sys.path[:] = sys.argv[1:]; from tvm_tinyml.tuning.worker import main; main()"


class Processes(Generic[Argument, Result]):
    """Processes that call a function, each one call at a time.

    They end with this process, however it ends.

    Parameters
    ----------
    function : of a module, by which the processes find it.
    count : of processes. They are started when they are first needed.
    timeout_seconds : for one call. Then its process is killed; another one takes its place.
    """

    def __init__(self, function: Callable[[Argument], Result], count: int, timeout_seconds: float) -> None:
        self._threads = ThreadPoolExecutor(count)
        self._free: queue.SimpleQueue[_Process] = queue.SimpleQueue()
        self._all = [_Process(function, timeout_seconds) for _ in range(count)]
        for process in self._all:
            self._free.put(process)

    def call(self, arguments: Iterable[Argument]) -> Iterator[tuple[Argument, Future[Result]]]:
        """Call the function with each argument, and yield what came of it in the order in which it came.

        In place of a result there may be a ``TimeoutError``, or a ``ChildProcessError`` where the process ended.
        """
        pending = {self._threads.submit(self._call, argument): argument for argument in arguments}
        try:
            for future in as_completed(pending):
                yield pending[future], future
        finally:
            for future in pending:
                future.cancel()

    def close(self) -> None:
        """Kill the processes, with calls that are under way."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process in self._all:
            process.close()
        self._threads.shutdown()
        for process in self._all:
            process.end()

    def _call(self, argument: Argument) -> Result:
        process = self._free.get()
        try:
            result: Result = process.call(argument)
            return result
        finally:
            self._free.put(process)


class _Process:
    """One process, started when it is needed and after it was lost."""

    def __init__(self, function: Callable[[Any], Any], timeout_seconds: float) -> None:
        self._function = function
        self._timeout_seconds = timeout_seconds
        self._lock = threading.Lock()
        self._running: subprocess.Popen[bytes] | None = None
        self._closed = False

    def call(self, argument: Any) -> Any:
        """Return the result of a call; raise what `Processes.call` says."""
        data = pickle.dumps(argument, pickle.HIGHEST_PROTOCOL)
        if self._running is None:
            self._ask(self._start(), pickle.dumps(self._function), START_SECONDS)
        assert self._running
        return self._ask(self._running, data, self._timeout_seconds)

    def close(self) -> None:
        """Kill the process; there will be no other one."""
        with self._lock:
            self._closed = True
            if self._running:
                self._running.kill()

    def end(self) -> None:
        """Make sure that the process is gone; the next call starts another one."""
        with self._lock:
            process, self._running = self._running, None
        if process:
            process.kill()
            with contextlib.suppress(OSError):  # what is left of a request
                process.__exit__(None, None, None)

    def _start(self) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._closed:
                raise ChildProcessError
            self._running = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, *sys.path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # where Ctrl-C does not reach it
            )
            return self._running

    def _ask(self, process: subprocess.Popen[bytes], data: bytes, seconds: float) -> Any:
        """Return what a process answers, if it does in time."""
        late = threading.Event()

        def stop() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(seconds, stop)
        timer.start()
        try:
            assert process.stdin
            assert process.stdout
            process.stdin.write(data)
            process.stdin.flush()
            answer = pickle.load(process.stdout)
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            self.end()
            raise TimeoutError if late.is_set() else ChildProcessError from error
        finally:
            timer.cancel()
            timer.join()
        if late.is_set():  # it was killed when it had just answered
            self.end()
        return answer
