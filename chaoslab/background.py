"""Work in a daemon thread, with its outcome as a Future."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def in_thread(work: Callable[[], T], name: str) -> Future[T]:
    """Run `work` in a daemon thread of its own, and not in a pool.

    So it never queues behind work that hangs, and work that hangs does not keep the program from ending.
    """
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except Exception as failed:
            outcome.set_exception(failed)

    threading.Thread(target=run, name=name, daemon=True).start()
    return outcome
