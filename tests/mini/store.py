"""Keeps entries, in memory: the store stands outside the sites that burn. LOSE=n forgets every n-th after saying yes,
TWICE=n applies every n-th twice.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from serving import Answer, serve

ENTRIES: dict[str, dict[str, object]] = {}
LOSE = int(os.environ.get("LOSE", "0"))
TWICE = int(os.environ.get("TWICE", "0"))
COUNT = [0]


def handle(method: str, path: str, body: bytes) -> Answer:
    if method == "POST":
        entry = json.loads(body)
        COUNT[0] += 1
        if not LOSE or COUNT[0] % LOSE:
            ENTRIES[entry["id"]] = entry
        return 201, {"id": entry["id"]}
    query = parse_qs(urlsplit(path).query)
    writer, after = query.get("writer", [""])[0], int(query.get("after", ["-1"])[0])
    return 200, {
        "entries": [
            {"id": id_, "hash": hashlib.sha256(str(entry["payload"]).encode()).hexdigest()}
            for number, (id_, entry) in enumerate(list(ENTRIES.items()), 1)
            for _ in range(2 if TWICE and number % TWICE == 0 else 1)
            if entry["writer"] == writer and int(str(entry["seq"])) > after
        ]
    }


Path(os.environ["DATA"], "here").write_text("a file on the volume")
serve(handle)
