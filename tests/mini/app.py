"""The service of the mini stack: hands everything to the store. A store that does not answer in time is a 503."""

from __future__ import annotations

import http.client
import json
import os

from serving import Answer, serve

SITE = os.environ["CHAOSLAB_SITE"]


def handle(method: str, path: str, body: bytes) -> Answer:
    if path == "/where":
        return 200, {"site": SITE}
    if path == "/peer":
        return ask(os.environ["PEER"], "GET", "/where", b"")
    return ask(os.environ["STORE"], method, path, body)


def ask(address: str, method: str, path: str, body: bytes) -> Answer:
    connection = http.client.HTTPConnection(address, timeout=0.3)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    except OSError:
        return 503, {"error": f"no answer from {address}"}
    finally:
        connection.close()


serve(handle)
