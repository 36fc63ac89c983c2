"""The entry of the mini stack: asks the upstreams in order, and leaves one that failed alone for half a minute."""

from __future__ import annotations

import http.client
import json
import os
import time

from serving import Answer, serve

UPSTREAMS = os.environ["UPSTREAMS"].split(",")
DOWN_UNTIL: dict[str, float] = {}


def handle(method: str, path: str, body: bytes) -> Answer:
    for address in sorted(UPSTREAMS, key=lambda one: DOWN_UNTIL.get(one, 0.0) > time.monotonic()):
        connection = http.client.HTTPConnection(address, timeout=0.2)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        except OSError:
            DOWN_UNTIL[address] = time.monotonic() + 30.0
            if method == "POST":
                return 502, {"error": "unknown outcome"}
        finally:
            connection.close()
    return 503, {"error": "nobody answers"}


serve(handle)
