"""Ordinary Compose files load, overlays merge as Compose merges them, and what is wrong points into the right file."""

from __future__ import annotations

from pathlib import Path

import pytest
from golden_files import FIXTURES

from chaoslab.spec.stackfile.compose import ComposeFile, load_stack
from chaoslab.spec.stackfile.topology import Healthcheck
from chaoslab.spec.yaml.problems import SpecErrors

STACK = FIXTURES / "stack.yaml"


def with_overlay(tmp_path: Path, *overlays: str) -> ComposeFile:
    files = []
    for number, text in enumerate(overlays):
        files.append(tmp_path / f"overlay{number}.yaml")
        files[-1].write_text(text)
    return load_stack([STACK, *files])


def test_topology() -> None:
    """Labels make sites and services; expose, ports and listening addresses make ports; profiles stay out."""
    compose = load_stack([STACK])
    topology = compose.topology()
    assert topology.project == compose.name == "shop"
    assert topology.places == ("east", "west", "witness", "outside")
    assert [replica.name for replica in topology.of_service("web")] == ["web-east", "web-west"]
    assert [replica.name for replica in topology.in_site("east")] == ["web-east", "db-east"]
    assert topology.replica("web-east").ports == (8080,)
    assert topology.replica("db-east").ports == (5432, 8008)
    assert topology.replica("entry").ports == (8080, 22)
    assert topology.replica("web-east").depends_on == topology.replica("db-west").depends_on == ("db-east",)
    assert topology.entry == ("entry", 8080)
    assert "debugger" not in compose.services


def test_health_checks() -> None:
    """CMD is an argument list; CMD-SHELL and plain text go through sh."""
    topology = load_stack([STACK]).topology()
    assert topology.replica("web-east").healthcheck == Healthcheck(("python", "-m", "health"), interval_s=1, timeout_s=2)
    assert topology.replica("web-west").healthcheck == Healthcheck(("sh", "-c", "curl -f localhost:8080"))
    assert topology.replica("entry").healthcheck is None


def test_strings_are_not_interpolated_and_words_are_read_as_compose_reads_them() -> None:
    """The runtimes fill in `${VAR:-default}`; `restart: no` is a word and 22:22 is no number in base 60."""
    services = load_stack([STACK]).services
    assert services["web-east"]["environment"]["LISTEN"] == "${LISTEN:-0.0.0.0:8080}"
    assert services["web-west"]["environment"] == {"LISTEN": "${LISTEN:-0.0.0.0:8080}", "DEBUG": None}
    assert services["web-east"]["restart"] == "no"
    assert services["entry"]["ports"] == ["127.0.0.1:80:8080", "22:22"]


def test_overlay_merges_as_compose_does(tmp_path: Path) -> None:
    """Mappings merge, command and health test are replaced, ports add up, volumes merge by target."""
    compose = with_overlay(
        tmp_path,
        """
services:
  web-east:
    command: [serve]
    environment: [DEBUG=1]
    healthcheck: {test: [CMD, "true"]}
    expose: [9090]
  db-east:
    expose: [8008, 9187]
    volumes: ["other:/data", "conf:/etc/db"]
  extra: {image: extra, labels: {chaoslab.site: west}}
""",
    )
    web = compose.services["web-east"]
    assert web["command"] == ["serve"]
    assert web["environment"]["DEBUG"] == "1"
    assert web["environment"]["LISTEN"] == "${LISTEN:-0.0.0.0:8080}"
    assert web["healthcheck"] == {"test": ["CMD", "true"], "interval": "1s", "timeout": "2s"}
    assert compose.services["db-east"]["expose"] == ["5432", 8008, 9187]
    assert compose.services["db-east"]["volumes"] == ["other:/data", "conf:/etc/db"]
    assert compose.topology().replica("extra").site == "west"


def test_overlay_of_the_section(tmp_path: Path) -> None:
    """`x-chaoslab` merges key by key; its lists are replaced."""
    compose = with_overlay(
        tmp_path, "x-chaoslab: {sites: [east], tiers: {critical: {rto: '< 5s'}}, journeys: {db.ping: null}}", "{}"
    )
    assert compose.spec.sites == ["east"]
    assert str(compose.spec.tiers["critical"].rto) == "< 5s"
    assert str(compose.spec.tiers["critical"].failback) == "< 30s"
    assert set(compose.spec.journeys) == {"web.order", "web.look"}


def test_overlay_takes_away_and_overrides(tmp_path: Path) -> None:
    """null and `!reset` remove a key, `!override` replaces it whole; an empty variable is none of these."""
    compose = with_overlay(
        tmp_path,
        """
services:
  mailer: null
  arbiter: !reset null
  web-east: {depends_on: !reset [], environment: {LISTEN: null}, labels: !override {chaoslab.site: west}}
  entry: {ports: !override ["8080"]}
""",
    )
    assert "mailer" not in compose.services
    assert "arbiter" not in compose.services
    assert "depends_on" not in compose.services["web-east"]
    assert compose.services["web-east"]["environment"]["LISTEN"] is None
    assert compose.services["web-east"]["labels"] == {"chaoslab.site": "west"}
    assert compose.services["entry"]["ports"] == ["8080"]


def test_problems_point_into_the_file_that_says_it(tmp_path: Path) -> None:
    """What an overlay breaks is shown in the overlay, what it leaves alone in the base."""
    with pytest.raises(SpecErrors) as refused:
        with_overlay(tmp_path, "x-chaoslab:\n  entry: web:8080\n  services: {web: {tier: golden}}\n")
    assert [(Path(problem.file).name, problem.line, problem.column) for problem in refused.value.problems] == [
        ("overlay0.yaml", 2, 10),
        ("overlay0.yaml", 3, 26),
    ]


def test_every_broken_file_is_told(tmp_path: Path) -> None:
    """One unreadable file does not hide the other."""
    with pytest.raises(SpecErrors) as refused:
        with_overlay(tmp_path, "a: [", "hello")
    assert {Path(problem.file).name for problem in refused.value.problems} == {"overlay0.yaml", "overlay1.yaml"}


def test_third_party_file(tmp_path: Path) -> None:
    """Keys and forms that chaoslab has no use for do not disturb it."""
    file = tmp_path / "docker-compose.yml"
    file.write_text("""
version: "3.9"
x-logging: &logging {logging: {driver: json-file, options: {max-size: 10m}}}
services:
  app:
    <<: *logging
    build: {context: ., args: {VERSION: 1.10, DATE: 2024-01-01}}
    command: gunicorn app:app --bind ${BIND:-0.0.0.0:8000}
    deploy: {replicas: 2, resources: {limits: {cpus: "0.5"}}}
    env_file: .env
    networks: [front]
    ports: ["${PORT:-80}:8000", {target: 9000, published: "9000"}, "53:53/udp", "7000-7002:7000-7002"]
    healthcheck: {test: ["CMD-SHELL", "curl -f http://localhost:8000 || exit 1"], interval: "${EVERY:-1m30s}", retries: 5}
    labels: [chaoslab.site=a]
    ulimits: {nofile: {soft: 20000, hard: 40000}}
    mode: 0440
networks: {front: {}}
configs: {c: {file: ./c}}
x-chaoslab: {sites: [a], entry: "app:8000"}
""")
    app = load_stack([file]).topology().replica("app")
    assert app.ports == (8000, 9000, 7000, 7001, 7002)
    assert app.healthcheck == Healthcheck(("sh", "-c", "curl -f http://localhost:8000 || exit 1"), interval_s=90, retries=5)


def test_include_and_extends_are_followed(tmp_path: Path) -> None:
    """From other files and by way of others; what is nearer wins, and an overlay wins over all."""
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts/db.yaml").write_text("services: {db: {image: db, expose: ['5432']}}\ninclude: [more.yaml]")
    (tmp_path / "parts/more.yaml").write_text("services: {cache: {image: cache}}")
    (tmp_path / "parts/common.yaml").write_text("""
services:
  basis: {image: old, environment: [A=1, B=1], healthcheck: {test: curl x}}
  app: {extends: basis, image: app, environment: {B: "2"}}
""")
    file = tmp_path / "compose.yaml"
    file.write_text("""
include: [{path: parts/db.yaml}]
services:
  web: {extends: {file: parts/common.yaml, service: app}, environment: {C: "3"}, expose: [80], depends_on: [db, cache]}
x-chaoslab: {sites: [a], entry: "web:80"}
""")
    overlay = tmp_path / "over.yaml"
    overlay.write_text("services: {db: {labels: {chaoslab.site: a}, image: newer}}")
    compose = load_stack([file, overlay])
    web = compose.services["web"]
    assert (web["image"], web["environment"]) == ("app", {"A": "1", "B": "2", "C": "3"})
    assert web["healthcheck"] == {"test": ["CMD-SHELL", "curl x"]}
    assert compose.services["db"] == {"image": "newer", "expose": ["5432"], "labels": {"chaoslab.site": "a"}}
    assert set(compose.services) == {"web", "db", "cache"}


def test_circles_end(tmp_path: Path) -> None:
    """Known bad: files that include each other, and services that extend each other, for ever."""
    file = tmp_path / "compose.yaml"
    file.write_text("""
include: [compose.yaml]
services: {a: {extends: b}, b: {extends: a}}
x-chaoslab: {sites: [a], entry: "a:80"}
""")
    with pytest.raises(SpecErrors) as refused:
        load_stack([file])
    said = str(refused.value)
    assert "include each other" in said
    assert "a extends itself" in said


def test_what_only_compose_knows_is_left_to_it(tmp_path: Path) -> None:
    """Variables without a default, and services that need not be there."""
    file = tmp_path / "compose.yaml"
    file.write_text("""
services:
  web:
    expose: ["${PORT}", "80:${PORT:?needed}", 81]
    healthcheck: {test: [CMD, "true"], interval: "${EVERY}", retries: "${TRIES}"}
    depends_on: {debug: {condition: service_started, required: false}, db: {condition: service_healthy, required: false}}
    labels: {chaoslab.site: a}
  db: {image: db}
  debug: {image: debug, profiles: [debug]}
x-chaoslab: {sites: [a], entry: "web:81"}
""")
    web = load_stack([file]).topology().replica("web")
    assert web.ports == (81,)
    assert web.depends_on == ("db",)
    assert web.healthcheck == Healthcheck(("true",))


def test_the_real_stack_loads() -> None:
    """compose/two-site is sound, and stands in two sites, a witness's place and outside."""
    topology = load_stack([Path(__file__).parents[2] / "compose/two-site/compose.yaml"]).topology()
    assert topology.places == ("pangyo", "anyang", "witness", "outside")
