"""An entry of the mini stack that asks one site until a person, or a runbook, switches it: while there is a file, the other."""

from __future__ import annotations

import http.client
import json
import os
from pathlib import Path

from serving import Answer, serve

SWITCH = Path(os.environ["SWITCH"])


def handle(method: str, path: str, body: bytes) -> Answer:
    address = os.environ["WESTWARD" if SWITCH.exists() else "EASTWARD"]
    connection = http.client.HTTPConnection(address, timeout=0.2)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    except OSError:
        return 502, {"error": "unknown outcome"}
    finally:
        connection.close()


serve(handle)
