"""The service of the mini stack: hands everything to the store. A store that does not answer in time is a 503.

QUEUES=yes keeps a write that the store does not take, answers 202, and hands it over later; QUEUES=forgets never does.
"""

from __future__ import annotations

import http.client
import json
import os
import threading
import time

from serving import Answer, serve

SITE = os.environ["CHAOSLAB_SITE"]
QUEUES = os.environ.get("QUEUES", "")
WAITING: list[tuple[str, bytes]] = []


def handle(method: str, path: str, body: bytes) -> Answer:
    if path == "/where":
        return 200, {"site": SITE}
    if path == "/peer":
        return ask(os.environ["PEER"], "GET", "/where", b"")
    if QUEUES and method == "POST":
        if not WAITING and (answer := ask(os.environ["STORE"], method, path, body))[0] == 201:
            return answer
        WAITING.append((path, body))
        return 202, {}
    return ask(os.environ["STORE"], method, path, body)


def hand_over() -> None:
    while True:
        time.sleep(0.1)
        while WAITING and (QUEUES == "forgets" or ask(os.environ["STORE"], "POST", *WAITING[0])[0] == 201):
            WAITING.pop(0)


def ask(address: str, method: str, path: str, body: bytes) -> Answer:
    connection = http.client.HTTPConnection(address, timeout=0.1 if QUEUES else 0.3)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    except OSError:
        return 503, {"error": f"no answer from {address}"}
    finally:
        connection.close()


threading.Thread(target=hand_over, daemon=True).start()
serve(handle)
