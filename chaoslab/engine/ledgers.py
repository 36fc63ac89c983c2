"""The final reads of a trial: every site's ledgers, each from the first replica of the service that listens on the port."""

from __future__ import annotations

from collections.abc import Sequence

from chaoslab.clock import Deadline
from chaoslab.history.rows import LedgerRead
from chaoslab.probe.final_read import read_all_sites
from chaoslab.stack.protocol import Stack


def read_ledgers(stack: Stack, probed: Sequence[str] | None, writer: str, deadline: Deadline) -> list[LedgerRead]:
    """The ledgers of these journeys (None: all), limited to writes of `writer`, the prefix of the prober's plan.

    Blocks. A read that failed is a row with `ok` False.
    """
    spec = stack.topology.spec
    journeys = {
        name: journey
        for name, journey in spec.journeys.items()
        if journey.ledger is not None and (probed is None or name in probed)
    }
    addresses: dict[str, dict[str, str]] = {}
    for site in spec.sites:
        for journey in journeys.values():
            place = (journey.ledger and journey.ledger.from_) or journey.service
            service, _, port = place.partition(":")
            replicas = stack.topology.of_service(service, site)
            for replica in [one for one in replicas if not port or int(port) in one.ports][:1]:
                url = f"http://{stack.address(replica.name, int(port) if port else replica.ports[0])}"
                addresses.setdefault(site, {})[place] = url
    return read_all_sites(journeys, addresses, writer, deadline)
