"""`chaoslab init` writes new files only, and all that it writes passes `check`, whatever the Compose file has in it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from adopting import WRITTEN, check, init, loaded, no_docker, write

from chaoslab.clock import Deadline
from chaoslab.errors import EnvironmentFault, SpecError
from chaoslab.spec.yaml.problems import SpecErrors
from chaoslab.stack.embedded.stack import EmbeddedStack

SHAPES: dict[str, dict[str, str]] = {
    "one service": {"compose.yaml": "services: {web: {image: shop, ports: ['8000:8000']}}"},
    "nothing published": {"compose.yaml": "services: {worker: {image: shop}, db: {image: postgres}}"},
    "a database alone": {"compose.yaml": "services: {db: {image: postgres, ports: ['5432:5432']}}"},
    "a profile": {"compose.yaml": "services: {web: {image: shop, ports: ['80:80']}, debug: {image: d, profiles: [debug]}}"},
    "not required": {
        "compose.yaml": """
services:
  web:
    image: shop
    ports: ["80:80"]
    depends_on: {debug: {condition: service_started, required: false}, api: {condition: service_started}}
  api: {image: api}
  debug: {image: d, profiles: [debug]}
"""
    },
    "jobs": {
        "compose.yaml": """
services:
  web: {image: shop, ports: ["80:80"], depends_on: {migrate: {condition: service_completed_successfully}}}
  api: {image: api}
  migrate: {image: shop, command: migrate}
  db-init: {image: shop, command: seed}
"""
    },
    "links and names": {
        "compose.yaml": """
services:
  web: {image: shop, ports: ["80:80"], links: ["db:database", api], external_links: [other]}
  db: {image: postgres, container_name: the_db, hostname: dbhost, domainname: example.com}
  api: {image: api, networks: {default: {aliases: [backend]}}}
"""
    },
    "addresses": {
        "compose.yaml": """
services:
  web: {image: shop, ports: ["80:80"], environment: ["API=http://10.7.0.9:80"], networks: [net]}
  api: {image: api, networks: {net: {ipv4_address: 10.7.0.9}}}
networks: {net: {ipam: {config: [{subnet: 10.7.0.0/24}]}}}
"""
    },
    "network modes": {
        "compose.yaml": """
services:
  web: {image: shop, ports: ["80:80"]}
  side: {image: side, network_mode: "service:web"}
  batch: {image: batch, network_mode: none}
"""
    },
    "ports of all forms": {
        "compose.yaml": """
services:
  web:
    image: shop
    ports: ["3000", "127.0.0.1:8001:8001", "9090-9091:8080-8081", "49100:22", "6060:6060/udp", "${PORT:-8000}:80",
            {target: 443, published: "8443", protocol: tcp, mode: host}]
    expose: ["7000-7002", "${METRICS:-9100}"]
  udp: {image: dns, ports: ["53:53/udp"]}
  api: {image: api, ports: ["8080"]}
"""
    },
    "several containers": {
        "compose.yaml": """
services:
  lb: {image: nginx, ports: ["80:80"]}
  web: {image: shop, deploy: {replicas: 3, resources: {limits: {cpus: "0.5"}}}}
  worker: {image: shop, command: work, scale: 2}
"""
    },
    "several containers of the entry": {
        "compose.yaml": "services: {web: {image: shop, ports: ['8080-8081:80'], scale: 2}, db: {image: 'postgres:16'}}"
    },
    "extends and include": {
        "compose.yaml": """
include: [infra/db.yaml, {path: [infra/cache.yaml]}]
services:
  base: {image: shop, environment: {A: "1"}, healthcheck: {test: curl -f http://localhost:8000/up, interval: 1m30s}}
  web-1: {extends: {service: base}, ports: ["8000:8000"]}
  web-2: {extends: base, depends_on: [db, cache]}
  mail: {extends: {file: infra/common.yaml, service: mail}}
""",
        "infra/db.yaml": "services: {db: {image: postgres, volumes: ['data:/var/lib/postgresql/data']}}\nvolumes: {data: {}}",
        "infra/cache.yaml": "services: {cache: {image: 'redis:7'}}",
        "infra/common.yaml": "services: {mail: {extends: {service: basis}, command: mail}, basis: {image: mail}}",
    },
    "configs and secrets": {
        "compose.yaml": """
services:
  lb: {image: nginx, ports: ["80:80"], configs: [{source: nginx, target: /etc/nginx/nginx.conf}], secrets: [token]}
  api: {image: api, secrets: [{source: token, uid: "103", mode: 0440}]}
configs: {nginx: {file: ./nginx.conf}}
secrets: {token: {file: ./token}}
""",
        "nginx.conf": "server { location / { proxy_pass http://api:8000; } }",
        "token": "x",
    },
    "networks": {
        "compose.yaml": """
services:
  web: {image: shop, ports: ["80:80"], networks: [front, back], extra_hosts: ["host.docker.internal:host-gateway"]}
  db: {image: mongo, networks: {back: {}}}
networks: {front: {}, back: {internal: true}, outer: {external: true}}
"""
    },
    "volumes": {
        "compose.yaml": """
services:
  web: {image: shop, ports: ["80:80"], volumes: ["files:/files", "./src:/src", "/tmp", {type: tmpfs, target: /t}]}
  db: {image: postgres, volumes: ["mine:/var/lib/postgresql/data"]}
  my: {image: mariadb, volumes: ["./mysql:/var/lib/mysql"]}
  agent:
    image: agent
    volumes: ["/var/run/docker.sock:/var/run/docker.sock:ro", {type: bind, source: ./c, target: /c, read_only: true}]
volumes: {files: {}, mine: {external: true}}
"""
    },
    "anchors and variables": {
        "compose.yaml": """
x-common: &common {image: "shop:${TAG}", restart: always, environment: &env {A: "${A}", B: "${B:-2}", C: "$$HOME"}}
services:
  web-1: {<<: *common, ports: ["${HOST_PORT:-8080}:8000"], healthcheck: {test: ["CMD", "true"], interval: "${EVERY:-5s}"}}
  web-2: {<<: *common, environment: {<<: *env, D: 4}, mem_limit: "${MEM:-100m}", labels: ["a=b", c]}
""",
        ".env": "TAG=1\nA=2\n",
    },
    "odd names": {
        "compose.yaml": """
services:
  "on": {image: a, ports: ["80:80"]}
  "1": {image: b}
  "2": {image: b}
  "null": {image: c}
  a.b_c-d: {image: d}
  "007": {image: e}
  "1e3": {image: f}
"""
    },
    "an old version": {
        "docker-compose.yml": """
version: "2.4"
services:
  web: {image: shop, ports: ["80:80"], mem_limit: 1g, cpus: 0.5, depends_on: {db: {condition: service_healthy}}}
  db: {image: "mysql:5.7", healthcheck: {test: [CMD-SHELL, mysqladmin ping], disable: false}}
"""
    },
    "an override": {
        "compose.yaml": "services: {web: {image: shop, ports: ['80:80']}, db: {image: postgres}}",
        "compose.override.yaml": "services: {web: {ports: ['81:81']}, mail: {image: mail}}",
    },
    "a build": {
        "compose.yaml": "services: {web: {build: ., ports: ['80:80']}, api: {build: {context: api, args: {A: 1}}}}",
        "Dockerfile": "FROM nginx\nCOPY conf /etc/nginx/conf.d/default.conf\n",
        "conf": "server { listen 80; location / { proxy_pass http://api:9000; } }",
        "api/Dockerfile": "FROM python\nEXPOSE 9000\n",
    },
}


@pytest.fixture(params=[pytest.param("compose", marks=pytest.mark.docker), "own reader"])
def reader(request: pytest.FixtureRequest) -> Iterator[str]:
    """`docker compose config`, and our own reader."""
    if request.param == "compose":
        yield "docker compose"
    else:
        with no_docker():
            yield "own reader"


def test_what_a_run_refuses_is_told_by_init_and_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same cure."""
    compose = "services: {web: {image: shop, ports: ['80:80']}, agent: {image: agent, network_mode: host}}"
    monkeypatch.chdir(write(tmp_path, {"compose.yaml": compose}))
    with no_docker():
        assert "network_mode: !reset null" in init("--yes")
        with pytest.raises(AssertionError, match=r"remove it: network_mode: !reset null"):
            check()


@pytest.mark.parametrize("shape", SHAPES)
def test_init_then_check(shape: str, reader: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No traceback, nothing to edit; and the user's own files are as they were."""
    monkeypatch.chdir(write(tmp_path, SHAPES[shape]))
    assert "wrote chaoslab.yaml" in init("--yes")
    assert check() == ["first-fire"]
    assert {name: (tmp_path / name).read_text() for name in SHAPES[shape]} == SHAPES[shape]
    written = {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()} - SHAPES[shape].keys()
    assert written == set(WRITTEN)
    compile((tmp_path / "experiments/load/first_fire.py").read_text(), "first_fire.py", "exec")
    assert loaded().experiment.timeline[0].id == "fire"


def test_files_beside_the_compose_file_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: str) -> None:
    """What a Dockerfile copies and exposes, and configs: known bad without them, a proxy that hides what is behind it."""
    for shape in ("a build", "configs and secrets"):
        monkeypatch.chdir(write(tmp_path / shape, SHAPES[shape]))
        init("--yes")
        stack = loaded().compose.spec
        assert [journey.service for journey in stack.journeys.values()] == ["api"]
    assert "9000" in (tmp_path / "a build/chaoslab.yaml").read_text()


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Two replicas behind a proxy, on a machine without Docker."""
    monkeypatch.chdir(
        write(
            tmp_path,
            {
                "compose.yaml": """
services:
  lb: {image: nginx, ports: ["80:80"], depends_on: [web-1, web-2]}
  web-1: {image: shop}
  web-2: {image: shop}
"""
            },
        )
    )
    with no_docker():
        yield tmp_path


def test_init_twice(shop: Path) -> None:
    """The second time it refuses, names the files and the cure, and changes nothing: also not what is missing of its own."""
    init("--yes")
    before = (shop / "chaoslab.yaml").read_text() + "# mine\n"
    (shop / "chaoslab.yaml").write_text(before)
    (shop / "experiments/load/first_fire.py").unlink()
    with pytest.raises(SpecError, match=r"chaoslab\.yaml, experiments/first-fire\.yaml: already there") as refused:
        init("--yes")
    assert "remove or rename them first" in str(refused.value)
    assert (shop / "chaoslab.yaml").read_text() == before
    assert not (shop / "experiments/load/first_fire.py").exists()


def test_a_link_is_never_followed(shop: Path) -> None:
    """Known bad: a dangling link that is named chaoslab.yaml, by which another file would be made."""
    (shop / "chaoslab.yaml").symlink_to(shop / "elsewhere")
    with pytest.raises(SpecError, match="already there"):
        init("--yes")
    assert not (shop / "elsewhere").exists()


def test_all_files_or_none(shop: Path) -> None:
    """Known bad: a file where a folder should be was `there already`, and left the overlay, so no second try was possible."""
    (shop / "experiments").write_text("mine")
    with pytest.raises(EnvironmentFault, match=r"cannot write .*experiments.*, so nothing was written"):
        init("--yes")
    assert sorted(file.name for file in shop.iterdir()) == ["compose.yaml", "experiments"]


def test_a_dry_run_and_json_print(shop: Path) -> None:
    """Nothing is written, every file is shown; --json is for machines, and asks nothing."""
    shown = init("--dry-run", "--yes")
    assert all(f"--- {name} (not written)" in shown for name in WRITTEN)
    assert [file.name for file in shop.iterdir()] == ["compose.yaml"]
    found = json.loads(init("--dry-run", "--json"))
    assert found["written"] == []
    assert {one["name"]: one["site"] for one in found["replicas"]} == {"lb": "outside", "web-1": "a", "web-2": "b"}


def test_at_most_five_questions(shop: Path) -> None:
    """An empty line takes the guess, which is shown with its reason."""
    asked = init(answers="seoul,busan\nlb:80\n/health\n2m\n")
    assert asked.count("]: ") <= 5
    assert "(publishes port 80 and it is nginx) [lb:80]: " in asked
    stack = loaded()
    assert stack.compose.spec.sites == ["seoul", "busan"]
    assert stack.compose.spec.journeys["web.health"].request.path == "/health"
    assert str(stack.compose.spec.tiers["standard"].rto) == "< 120s"
    assert stack.experiment.timeline[0].heal_after == 150  # an RTO of 120 s, and twice the hold


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ("", "the question was not answered"),
        ("one\n", "two different sites are needed"),
        ("A,b\n", "'A' cannot name a site"),
        ("a,outside\n", "'outside' cannot name a site"),
        ("\nweb-3:80\n", "Did you mean 'web-"),
        ("\nlb:http\n", "is not service:port"),
        ("\nlb:²\n", "is not service:port"),  # a digit, and no number
        ("\n\nhealth\n", "'health' is not a path"),
        ("\n\n\nsoon\n", "is not a duration"),
    ],
)
def test_answers_that_make_no_sense(shop: Path, answers: str, message: str) -> None:
    """One sentence and its cure; nothing is written."""
    with pytest.raises(SpecError) as refused:
        init(answers=answers)
    assert message in str(refused.value)
    assert "cure:" in str(refused.value)
    assert [file.name for file in shop.iterdir()] == ["compose.yaml"]


def test_what_cannot_be_adopted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file, a broken one, one that is adopted already, one without services: one sentence each."""
    monkeypatch.chdir(tmp_path)
    with no_docker():
        with pytest.raises(SpecError, match="no Compose file in"):
            init("--yes")
        with pytest.raises(SpecError, match=r"there is no file other\.yaml"):
            init("--yes", "other.yaml")
        write(tmp_path, {"compose.yaml": "services: [\n"})
        with pytest.raises(SpecErrors, match=r"compose\.yaml:2"):
            init("--yes")
        write(tmp_path, {"compose.yaml": "services: {a: {image: a, profiles: [x]}}"})
        with pytest.raises(SpecError, match="no services that start without a profile"):
            init("--yes")
        write(tmp_path, {"compose.yaml": "services: {a: , b: nginx}"})
        with pytest.raises(SpecError, match=r"compose\.yaml: service a, b is not a mapping"):
            init("--yes")
        write(tmp_path, {"compose.yaml": "services: {a: {image: nginx}, b: {image: redis, network_mode: 'service:a'}}"})
        with pytest.raises(SpecError, match="no service is in a site: a, b share the network of entry a"):
            init("--yes")
        write(tmp_path, {"compose.yaml": "services: {a: {image: a}}\nx-chaoslab: {sites: [a]}"})
        with pytest.raises(SpecError, match="already has an x-chaoslab section"):
            init("--yes")
    assert [file.name for file in tmp_path.iterdir()] == ["compose.yaml"]


def test_files_elsewhere_and_an_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written stands in this folder, and names the others from there; COMPOSE_FILE counts, as for Compose."""
    write(
        tmp_path,
        {
            "deploy/base.yaml": "services: {web: {image: shop, ports: ['80:80']}}",
            "deploy/more.yaml": "services: {db: {image: mysql}}",
        },
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COMPOSE_FILE", "deploy/base.yaml:deploy/more.yaml")
    with no_docker():
        init("--yes")
        assert check() == ["first-fire"]
    assert [file.name for file in loaded().experiment.stack] == ["base.yaml", "more.yaml", "chaoslab.yaml"]
    assert loaded().compose.project_dir == tmp_path / "deploy"


def test_own_data_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known bad: a rehearsal that kills a database on the user's own files, or in the user's own volume."""
    monkeypatch.chdir(write(tmp_path, SHAPES["volumes"]))
    with no_docker():
        init("--yes")
    compose = loaded().compose
    assert compose.volumes["mine"] == {}
    assert compose.services["my"]["volumes"] == ["chaoslab-my-data:/var/lib/mysql"]
    assert "files" in compose.volumes


def test_no_secret_gets_into_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: str) -> None:
    """Compose fills in `.env`; what is written has none of it."""
    monkeypatch.chdir(
        write(
            tmp_path,
            {
                "compose.yaml": """
services:
  web: {image: shop, ports: ["80:80"], environment: {PASSWORD: "${PW}", URL: "http://u:${PW}@api:8000/"}}
  api: {image: api, healthcheck: {test: "curl http://localhost/up?token=${PW}"}}
""",
                ".env": "PW=hunter2secret\n",
            },
        )
    )
    shown = init("--yes")
    assert "hunter2secret" not in shown + "".join((tmp_path / name).read_text() for name in WRITTEN)


def test_a_foreign_image_is_never_run_as_a_process(shop: Path) -> None:
    """Known bad: the command of a container, such as one that empties its /data, run on this machine for want of Docker."""
    command = f"[{sys.executable}, -c, \"open('ran', 'w')\"]"
    write(
        shop,
        {"compose.yaml": (shop / "compose.yaml").read_text().replace("{image: shop}", f"{{image: shop, command: {command}}}")},
    )
    init("--yes")
    stack = EmbeddedStack(loaded().compose, "0" * 8, shop / "data", shop / "logs")
    try:
        with pytest.raises(EnvironmentFault, match="runs from the image nginx, which needs a Docker engine") as refused:
            stack.up(Deadline.after(10), lambda _: None)
    finally:
        stack.down()
    assert "start Docker" in str(refused.value)
    assert not (shop / "ran").exists()


@pytest.mark.docker
def test_a_profile_that_is_set_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What COMPOSE_PROFILES starts is adopted, and starts in a rehearsal without it."""
    monkeypatch.chdir(write(tmp_path, SHAPES["a profile"]))
    monkeypatch.setenv("COMPOSE_PROFILES", "debug")
    init("--yes")
    monkeypatch.delenv("COMPOSE_PROFILES")
    assert "debug" in loaded().compose.services
