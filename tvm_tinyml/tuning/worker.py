"""What runs in a process of `Processes`: a function is called with one argument after another, as they come."""

from __future__ import annotations

import os
import pickle
import queue
import sys
import threading
from typing import Any

from tvm_tinyml.hidden_torch import torch_hidden


def main() -> None:
    """Read a function and arguments from the standard input, and write the results to what was the standard output."""
    with os.fdopen(os.dup(1), "wb") as results:
        os.dup2(2, 1)  # what TVM or LLVM print is no result
        received: queue.SimpleQueue[Any] = queue.SimpleQueue()
        with torch_hidden():  # the module that the function comes from may import TVM
            threading.Thread(target=_receive, args=(received,), daemon=True).start()
            function = received.get()
        answer = None  # it is there
        while True:
            pickle.dump(answer, results, pickle.HIGHEST_PROTOCOL)
            results.flush()
            answer = function(received.get())


def _receive(received: queue.SimpleQueue[Any]) -> None:
    """Pass on what comes; when nothing can come any more the process ends, whatever it is doing."""
    try:
        while True:
            received.put(pickle.load(sys.stdin.buffer))
    finally:
        os._exit(0)
