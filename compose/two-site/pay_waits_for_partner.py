"""pay with a defect: it calls the third party before each transfer, so an outage of that party stops our own payments.

Not part of the stack; an overlay replaces pay with it, to prove that an outage that spreads to our services is detected.
Needs PARTNER_URL.
"""

from __future__ import annotations

import os
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout, web

from connections import NotExecuted
from pay import TRANSFER_COLUMNS, pay
from postgres import Database
from records import Ledger, Record
from web_service import serve

ASK_S = 0.4


class PartnerConfirmedLedger(Ledger):
    """A ledger that stores a transfer only after the third party has confirmed it."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, "entries", extra=TRANSFER_COLUMNS)
        self._page = f"{os.environ['PARTNER_URL']}/partner/page"

    async def store(self, record: Record, *extra: Any) -> None:
        headers = {"Authorization": "Bearer demo"}
        try:
            async with (
                ClientSession(timeout=ClientTimeout(total=ASK_S)) as session,
                session.get(self._page, headers=headers) as answer,
            ):
                confirmed = answer.status == 200
        except (ClientError, TimeoutError, OSError) as failed:
            raise NotExecuted(f"the partner does not answer: {failed!r}") from failed
        if not confirmed:
            raise NotExecuted(f"the partner answered {answer.status}")
        await super().store(record, *extra)


def pay_waits_for_partner() -> web.Application:
    return pay(PartnerConfirmedLedger)


if __name__ == "__main__":
    serve(pay_waits_for_partner)
