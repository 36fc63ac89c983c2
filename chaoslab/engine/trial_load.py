"""The load of one trial: running Locust, writing its rows to the history, and ending it."""

from __future__ import annotations

from concurrent.futures import Future

from chaoslab.background import in_thread
from chaoslab.engine.events import Events
from chaoslab.engine.recorder import Recorder
from chaoslab.engine.waiting import Waiting
from chaoslab.history.rows import Fault, Load
from chaoslab.load.process import LoadProcess
from chaoslab.spec.model import LoadSpec

END_TIMEOUT_S = 120.0


class TrialLoad:
    """At most one Locust. Without one, all methods do nothing."""

    def __init__(self, rows: Recorder) -> None:
        self._rows = rows
        self._spec: LoadSpec | None = None
        self._active: set[str] = set()  # the faults, by id
        self._process: LoadProcess | None = None
        self._has_sent = False
        self._last_rows: Future[list[Load]] | None = None

    def start(self, spec: LoadSpec, process: LoadProcess) -> None:
        """Raises EnvironmentFault when it cannot be started."""
        self._spec, self._process = spec, process.start()
        if (published := process.published_url) is not None:
            self._rows.note("info", f"the entry is published at {published}, for Locust workers on other machines")

    def see(self, row: Fault) -> None:
        """Take a row: the number of users may change when a fault begins or ends."""
        if self._process is None or self._spec is None or row.id not in self._spec.under or self._last_rows is not None:
            return
        if row.event == "inject":
            self._active.add(row.id)
        elif row.event == "heal":
            self._active.discard(row.id)
        else:
            return
        self._process.change_users(self._spec.users_while(self._active))

    def record(self) -> None:
        """Write the seconds that are complete. Raises EnvironmentFault."""
        if self._process is None or self._last_rows is not None:
            return
        for row in self._process.rows():
            self._rows.write(row)
            self._has_sent = self._has_sent or row.requests > 0
        for level, text in self._process.news():
            self._rows.note(level, text)

    def idle(self) -> str | None:
        """Why there is no load yet, in words; the judge needs a request, too."""
        return "Locust has sent nothing yet" if self._process is not None and not self._has_sent else None

    def poll(self) -> str | None:
        """Why Locust has ended, in words; None while it runs."""
        return self._process.poll() if self._process is not None else None

    def begin_end(self) -> None:
        """Ask Locust to end, and wait for it in a separate thread."""
        if self._process is not None:
            self._last_rows = in_thread(self._process.stop, "Locust to end")

    def end(self, wait: Waiting) -> Events[None]:
        """Wait until Locust has ended, and write its last seconds. Raises NotReady if it does not end."""
        if self._last_rows is not None:
            for row in (yield from wait.for_future(self._last_rows, "Locust to end", END_TIMEOUT_S)):
                self._rows.write(row)
