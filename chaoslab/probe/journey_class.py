"""The class that a user writes for a journey in any other protocol: `python: module:Class`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from chaoslab.history.rows import Outcome


class Place(NamedTuple):
    """Where something listens: on this machine, as the stack's relays lead there."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Journey:
    """One journey. The prober makes one object of it, in its own process, and calls `attempt` for each slot, many at a time.

    For the reads at the end there is an object for each site, which is only asked to `read_back`. `entry`: where the journey's
    entry listens; at the end, the site's own replica of its service. `settings`: what stands under `with`. `writer`: with
    which the ids of this journey begin, "<writer>-<number>"; set after construction.

    Code runs on the prober's event loop: what would wait has to be awaited. A call that blocks the loop is reported, and the
    seconds around it count as the instrument's fault and not as the stack's. Its own retries would hide what is measured.
    """

    writer = ""

    def __init__(self, entry: Place, settings: Mapping[str, Any]) -> None:
        self.entry, self.settings = entry, settings

    async def attempt(self, id: str) -> Outcome | tuple[Outcome, str]:
        """Do it once, under this id. It is cancelled when the journey's timeout is over.

        A write returns "acked", "rejected" where it is proven that nothing was executed, or "indeterminate"; a read "ok" or
        "bad". A text beside it says why. Whatever it raises is "indeterminate", or "bad" for a read.
        """
        raise NotImplementedError

    async def read_back(self, site: str) -> Iterable[str | tuple[str, str]]:
        """The ids, or (id, hash), of all writes that a site holds, as its replica at `entry` answers; others' are left out.

        Only for a journey with a `ledger`. What it raises is a read that failed, and is tried again.
        """
        raise NotImplementedError

    async def close(self) -> None:
        """Close what is open; called once, at the end."""
