"""pay with a defect: of two database nodes that claim to lead, it trusts the one in its own site, not the one promoted later.

Not part of the stack; an overlay replaces pay with it, to prove that writes to a former leader are detected.
"""

from __future__ import annotations

from aiohttp import web

from pay import pay
from postgres import Database, Node
from web_service import database, serve


class LocalLeaderFirst(Database):
    """A database whose leader is the nearest node that claims to lead."""

    @property
    def leader(self) -> Node | None:
        return next((node for node in self.nodes if node.role), None)


def pay_trusts_local_leader() -> web.Application:
    return pay(open_database=lambda: LocalLeaderFirst(database().nodes))


if __name__ == "__main__":
    serve(pay_trusts_local_leader)
