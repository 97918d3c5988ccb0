"""Ctrl-C, also while TVM's own code runs."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType


class Interrupts:
    """Takes note of Ctrl-C while it is entered.

    A ``KeyboardInterrupt`` that passes through TVM arrives as a ``RuntimeError``, with TVM's warnings before it, or not
    at all. So the signal itself is remembered, and what is printed after it on file descriptor 2 is dropped.

    Attributes
    ----------
    came : whether there was one.
    """

    def __init__(self) -> None:
        self.came = False
        self._installed = False
        self._error_output: int | None = None

    def check(self) -> None:
        """Raise ``KeyboardInterrupt`` when there was one; to be called before anything is written."""
        if self.came:
            raise KeyboardInterrupt

    def __enter__(self) -> Interrupts:
        in_main_thread = threading.current_thread() is threading.main_thread()
        if in_main_thread and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._note)
            self._installed = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._installed:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if self._error_output is not None:
            os.dup2(self._error_output, 2)
            os.close(self._error_output)
            self._error_output = None

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.came = True
        if self._error_output is None:
            self._error_output = os.dup(2)
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 2)
            os.close(nowhere)
        raise KeyboardInterrupt
