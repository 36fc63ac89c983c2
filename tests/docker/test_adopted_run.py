"""A Compose project that knows nothing of chaoslab: adopted, and run to a verdict that is true of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from mini_stack import IMAGE, finish, start_chaoslab

pytestmark = [pytest.mark.docker, pytest.mark.timeout(150), pytest.mark.usefixtures("engine")]

COMPOSE = f"""
services:
  lb:
    image: {IMAGE}
    command: [caddy, run, --config, /etc/caddy/Caddyfile, --adapter, caddyfile]
    environment: {{XDG_DATA_HOME: /tmp, XDG_CONFIG_HOME: /tmp}}
    volumes: ["./Caddyfile:/etc/caddy/Caddyfile:ro"]
    ports: ["8089:8080"]
    depends_on: [app-1, app-2]
  app-1: &app
    image: {IMAGE}
    command: [python, -m, http.server, "8000"]
    working_dir: /srv
    restart: always
  app-2: *app
"""
CADDYFILE = """
:8080 {
  reverse_proxy app-1:8000 app-2:8000 {
    lb_try_duration 2s
    fail_duration 30s
    transport http {
      dial_timeout 300ms
    }
  }
}
"""


def test_init_and_a_first_fire(tmp_path: Path) -> None:
    """Two replicas behind a proxy survive the loss of one site; all that a person types is two commands."""
    (tmp_path / "compose.yaml").write_text(COMPOSE)
    (tmp_path / "Caddyfile").write_text(CADDYFILE)
    made = finish(start_chaoslab(tmp_path, "init", "--yes"), tmp_path)
    assert made.code == 0, made.err
    assert "entry     lb:8080" in made.out
    short = ["--set", "timeline.0.heal_after=12s", "--set", "objectives.app.rto=< 8s"]
    ran = finish(start_chaoslab(tmp_path, "run", "first-fire", "--runtime", "compose", *short), tmp_path, "first-fire")
    assert ran.code in (0, 3), ran.out + ran.err  # a busy machine may leave it inconclusive
    assert ran.result["runtime"] == "compose"
    assert [row["verdict"] for row in ran.result["objectives"] if row["id"] == "fault.fire"] == ["pass"], ran.out
    assert (tmp_path / "compose.yaml").read_text() == COMPOSE
