"""The store of the mini stack in a file, which it reads when it starts. SYNC=no acknowledges before anything is on the disk."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from serving import Answer, serve

FILE = Path(os.environ["DATA"], "entries")
SYNC = os.environ.get("SYNC", "yes") == "yes"
LINES = FILE.read_text().split("\n")[:-1] if FILE.exists() else []
OPEN = FILE.open("a")


def handle(method: str, path: str, body: bytes) -> Answer:
    if method == "POST":
        line = body.decode().replace("\n", " ")
        OPEN.write(f"{line}\n")
        OPEN.flush()
        if SYNC:
            os.fsync(OPEN.fileno())
        LINES.append(line)
        return 201, {"id": json.loads(line)["id"]}
    query = parse_qs(urlsplit(path).query)
    writer, after = query.get("writer", [""])[0], int(query.get("after", ["-1"])[0])
    entries = [json.loads(line) for line in LINES if line.strip("\0 ")]
    return 200, {
        "entries": [
            {"id": entry["id"], "hash": hashlib.sha256(str(entry["payload"]).encode()).hexdigest()}
            for entry in entries
            if entry["writer"] == writer and int(str(entry["seq"])) > after
        ]
    }


if SYNC:  # that the file is there at all
    folder = os.open(FILE.parent, os.O_RDONLY)
    os.fsync(folder)
serve(handle)
