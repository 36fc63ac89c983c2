"""Whole runs whose journeys, ledgers and conditions speak other protocols than HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mini_stack import Ran, run_until_told, write_experiment

OWN = '''
import asyncio
import json
import time
import chaoslab

async def ask(place, method, path, body=None):
    reader, writer = await asyncio.open_connection(*place)
    try:
        raw = json.dumps(body).encode() if body else b""
        head = f"{method} {path} HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\nContent-Length: {len(raw)}\\r\\n\\r\\n"
        writer.write(head.encode() + raw)
        answer = await reader.read()
    finally:
        writer.close()
    head, _, content = answer.partition(b"\\r\\n\\r\\n")
    return int(head.split()[1]), content

class Place(chaoslab.Journey):
    """Writes to the store through the entry; every tenth write is forgotten where the settings say so."""
    started = time.monotonic()

    async def attempt(self, id):
        after_s = time.monotonic() - self.started
        if self.settings.get("blocks") and 5.0 < after_s and not hasattr(self, "blocked"):
            self.blocked = True
            time.sleep(1.5)
        writer, _, seq = id.rpartition("-")
        if self.settings.get("forgets") and int(seq) % 10 == 0:
            return "acked"
        status, _ = await ask(self.entry, "POST", "/entries", {"id": id, "writer": writer, "seq": int(seq), "payload": id})
        return "acked" if status == 201 else ("rejected" if status == 429 else "indeterminate", f"status {status}")

    async def read_back(self, site):
        status, content = await ask(self.entry, "GET", f"/entries?writer={self.writer}&after=-1")
        return [entry["id"] for entry in json.loads(content)["entries"]]
'''
GREETING = "GET /where HTTP/1.1\r\nHost: x\r\n\r\n"
IN_TIME = {"good": {"within": "400ms"}, "timeout": "1s"}
STEADY = {"hold": "1s", "within": "20s", "journeys": {"good": "> 99%"}, "conditions": ["east-serves", "east-runs"]}


def run(folder: Path, **settings: Any) -> Ran:
    """The mini stack with one journey in Python, one of TCP, and a condition that is a command in a replica."""
    (folder / "own_journeys.py").write_text(OWN)
    own = {"class": "own_journeys:Place", "folder": str(folder), "with": settings}
    journeys = {
        "app.own": {"service": "app", "python": own, "ledger": {}} | IN_TIME,
        "app.bare": {"service": "app", "tcp": {"send": GREETING, "expect": '"site"'}} | IN_TIME,
    }
    runs = {"run": ["python", "-c", "print('[true]')"], "in": "app-east", "expect": "[0]"}
    overlay = {"x-chaoslab": {"journeys": journeys, "conditions": {"east-runs": runs}}}
    probe = {"rate": 20, "journeys": ["app.own", "app.bare", "app.read"]}
    write_experiment(folder, overlay=overlay, steady_state=STEADY, probe=probe)
    return run_until_told(folder, "mini.yaml", "--runtime", "embedded", "--allow-exec")


def test_journeys_in_other_protocols_pass(tmp_path):
    """A class and a bare connection are measured like HTTP; the class reads its ledger back from each site."""
    ran = run(tmp_path)
    assert ran.code == 0, ran.out
    assert ran.objective("app.rpo")["verdict"] == "pass"
    assert ran.result["ledger"]["app"]["acked"] > 50
    assert ran.result["services"]["app"]["rto_s"]["high"] < 5


def test_a_class_whose_writes_are_forgotten_fails(tmp_path):
    """Known bad: acknowledged, and in no site."""
    ran = run(tmp_path, forgets=True)
    assert ran.code == 1, ran.out
    assert ran.objective("app.rpo")["verdict"] == "fail"


def test_a_class_that_blocks_is_no_outage_of_the_stack(tmp_path):
    """Known bad: 1.5 s in which nothing could be sent. The report names the journey; nothing fails for it."""
    ran = run(tmp_path, blocks=True)
    assert ran.code in (0, 3), ran.out
    assert any("journey's class" in by for by in ran.result["machine"]["by"])
