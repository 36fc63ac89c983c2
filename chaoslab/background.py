"""Work in a thread of its own, of which somebody else looks after the end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def in_thread(work: Callable[[], T], name: str) -> Future[T]:
    """Do it in a thread that is there for this alone.

    So nothing waits for a worker that hangs in something else, and none that hangs keeps the program from ending.
    """
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except Exception as failed:
            outcome.set_exception(failed)

    threading.Thread(target=run, name=name, daemon=True).start()
    return outcome
