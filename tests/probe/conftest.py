"""A server that fails by script, and probers on it; all gone after their test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from probe_ends import RunningProber, ScriptedServer

from chaoslab.probe.plan import ProbePlan, Target


@pytest.fixture
def serve() -> Iterator:
    servers: list[ScriptedServer] = []

    def start(**script) -> ScriptedServer:
        servers.append(ScriptedServer(script))
        return servers[-1]

    yield start
    for server in servers:
        server.end()


@pytest.fixture
def probe(tmp_path) -> Iterator:
    probers: list[RunningProber] = []

    def start(url: str, *targets: Target, piped: bool = True, **changes) -> RunningProber:
        fields = {"history": str(tmp_path / "history.jsonl"), "writer": "w", "base_url": url, "targets": list(targets)}
        probers.append(RunningProber(tmp_path / f"prober-{len(probers)}", ProbePlan(**fields | changes), piped=piped))
        return probers[-1]

    yield start
    for prober in probers:
        prober.end()
