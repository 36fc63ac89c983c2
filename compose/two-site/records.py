"""Records that clients write with their own ids, and the ledger that reads them back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from connections import Unknown
from postgres import Database

TEXT_MAX = 4096
SEQ_MAX = 2**63 - 1


@dataclass(frozen=True)
class Record:
    """What a client asks to store. A request that is repeated with the same id is stored once."""

    id: str
    writer: str
    seq: int
    payload: str

    @property
    def answer(self) -> bytes:
        return json.dumps({"id": self.id, "hash": hashlib.sha256(self.payload.encode()).hexdigest()}).encode()


def parse(body: bytes) -> tuple[Record, dict[str, Any]]:
    """The record in a request's JSON, and all of its fields. Raises HTTPBadRequest."""
    try:
        fields = json.loads(body)
    except ValueError:
        raise refuse("the body is not JSON") from None
    if not isinstance(fields, dict):
        raise refuse("the body is not an object")
    texts = [_text(fields, name) for name in ("id", "writer", "payload")]
    seq = fields.get("seq")
    if type(seq) is not int or not 0 <= seq <= SEQ_MAX:
        raise refuse("seq is not a whole number from 0 up")
    return Record(texts[0], texts[1], seq, texts[2]), fields


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not value or len(value) > TEXT_MAX or "\0" in value:
        raise refuse(f"{name} is not a text of 1 to {TEXT_MAX} characters")
    return value


def refuse(why: str) -> web.HTTPBadRequest:
    return web.HTTPBadRequest(text=json.dumps({"error": why}), content_type="application/json")


class Ledger:
    """One table of records; `extra` names the columns that it has beyond a record's."""

    def __init__(self, database: Database, table: str, extra: Sequence[str] = ()) -> None:
        columns = ["id", "writer", "seq", "payload", *extra]
        names, places = ", ".join(columns), ", ".join(f"${n}" for n in range(1, len(columns) + 1))
        self._database = database
        # The update changes nothing, but makes a repeated request wait until the first one is replicated, too. Otherwise
        # it would be acknowledged because of a row that a failover may still lose.
        self._insert = (
            f"INSERT INTO {table} ({names}) VALUES ({places}) "  # noqa: S608 - names are constants of the program
            f"ON CONFLICT (id) DO UPDATE SET id = excluded.id RETURNING {names}"
        )
        self._read = (
            "SELECT coalesce(json_agg(json_build_object('id', id, 'hash', encode(sha256(convert_to(payload, 'UTF8')), 'hex'))"  # noqa: S608
            f" ORDER BY seq), '[]')::text FROM {table} WHERE writer = $1 AND seq > $2"
        )

    async def store(self, record: Record, *extra: Any) -> None:
        """Store a record; returns once it is replicated. Raises HTTPConflict if another record has this id."""
        wanted = (record.id, record.writer, record.seq, record.payload, *extra)
        kept = await self._database.on_leader(self._insert, *wanted)
        if kept is None:
            raise Unknown("the database returned no row")
        if tuple(kept) != wanted:
            raise web.HTTPConflict(text='{"error": "this id is taken by another record"}', content_type="application/json")

    async def read(self, query: Any) -> bytes:
        """All of a writer's records after a sequence number, as JSON, from the leader or (`local=1`) from the own site."""
        try:
            after = int(query.get("after", "-1"))
        except ValueError:
            raise refuse("after is not a whole number") from None
        if not -SEQ_MAX <= after <= SEQ_MAX:
            raise refuse("after is out of range")
        ask = self._database.on_local if query.get("local") == "1" else self._database.on_leader
        row = await ask(self._read, query["writer"], after)
        return b'{"entries": ' + row[0].encode() + b"}" if row else b""
