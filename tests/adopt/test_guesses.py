"""Guesses about a project are right where the file gives them away, and say where they are unsure."""

from __future__ import annotations

from dataclasses import replace

import pytest
from adopting import project

from chaoslab.adopt.entry import Served, entry_of
from chaoslab.adopt.facts import Service
from chaoslab.adopt.groups import Group, groups_of, spread
from chaoslab.adopt.guess import jobs_of, plan_of
from chaoslab.adopt.plan import Answers, Plan
from chaoslab.adopt.ports import ports_of
from chaoslab.adopt.servers import SERVERS, server_of


def plan(text: str, texts: dict[str, dict[str, str]] | None = None, served: Served | None = None, **answers) -> Plan:
    return plan_of(project(text, texts), Answers(**answers), served)


def sites(made: Plan) -> dict[str, str]:
    return {one.name: one.site for one in made.placed}


def notes(made: Plan) -> str:
    return "\n".join(f"{note.about}: {note.text} | {note.line}" for note in made.notes)


# --- which services are replicas ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "group", "order"),
    [
        (["web-1", "web-2"], "web", ["web-1", "web-2"]),
        (["web10", "web9"], "web", ["web9", "web10"]),
        (["web", "web-2"], "web", ["web", "web-2"]),
        (["db-standby", "db-primary"], "db", ["db-primary", "db-standby"]),
        (["east-api", "west-api"], "api", ["east-api", "west-api"]),
        (["api.a", "api.b"], "api", ["api.a", "api.b"]),
        (["api_blue", "api_green"], "api", ["api_blue", "api_green"]),
        (["mongo-arbiter", "mongo-1", "mongo-2"], "mongo", ["mongo-1", "mongo-2", "mongo-arbiter"]),
        (["web-seoul", "web-busan"], "web", ["web-busan", "web-seoul"]),
    ],
)
def test_names_that_differ_by_a_number_or_a_role(names: list[str], group: str, order: list[str]) -> None:
    """With the same image. Leaders come first and arbiters last; numbers count as numbers."""
    found = groups_of(project("services:\n" + "".join(f"  {name}: {{image: shop}}\n" for name in names)), ["seoul", "busan"])
    assert [(one.name, list(one.members)) for one in found] == [(group, order)]


@pytest.mark.parametrize(
    "services",
    [
        "{api-1: {image: shop/api}, api-2: {image: shop/mail}}",  # a number, and another image
        "{users-db: {image: postgres}, orders-db: {image: postgres}}",  # an image, and other names
        "{db1: {image: postgres, environment: {POSTGRES_DB: a}}, db2: {image: postgres, environment: {POSTGRES_DB: b}}}",
        "{web: {build: ., command: serve}, worker: {build: ., command: work}}",
        "{cache: {image: redis}, queue: {image: redis}}",
        "{one: {image: shop, environment: {ROLE: shop}}, two: {image: shop, environment: {ROLE: mail}}}",
    ],
)
def test_services_that_only_look_like_replicas(services: str) -> None:
    """Known bad: two databases of different contents, taken for one."""
    assert all(len(group.members) == 1 for group in groups_of(project(f"services: {services}")))


def test_an_image_with_the_same_settings_makes_replicas() -> None:
    """Whatever their names, but for the names in the settings; and members of a cluster name each other."""
    found = groups_of(
        project("""
services:
  alice: {build: ./api, environment: {SELF: alice, DB: db}}
  bob: {build: ./api, environment: {SELF: bob, DB: db}}
  huey: {image: quay.io/coreos/etcd:v3.5, command: "etcd --name huey --initial-cluster huey=http://huey:1,dewey=http://dewey:1"}
  dewey: {image: quay.io/coreos/etcd:v3.5, command: "etcd --name dewey --initial-cluster huey=http://huey:1,dewey=http://dewey:1"}
""")
    )
    assert [set(group.members) for group in found] == [{"alice", "bob"}, {"huey", "dewey"}]


def test_a_group_never_takes_the_name_of_another_service() -> None:
    """Known bad: `web-1` and `web-2` behind a proxy that is called `web` would become one service with it."""
    found = groups_of(project("services: {web: {image: nginx}, web-1: {image: shop}, web-2: {image: shop}}"))
    assert [(group.name, group.members) for group in found] == [("web", ("web",)), ("web-group", ("web-1", "web-2"))]


# --- where they stand -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "quorum", "expected"),
    [(2, True, "ab"), (3, True, "abw"), (5, True, "ababw"), (3, False, "aba"), (4, True, "abab")],
)
def test_an_odd_quorum_has_a_witness(count: int, quorum: bool, expected: str) -> None:
    """Else the loss of the site with more members is the loss of all."""
    members = tuple(f"m{number}" for number in range(count))
    placed = spread(Group("m", members), ("a", "b"), quorum=quorum, witness="w")
    assert "".join(placed[name] for name in members) == expected


def test_three_sites_need_no_witness_and_names_of_sites_count() -> None:
    """Known bad: `etcd-west` put into the east, because it comes first."""
    members = ("m0", "m1", "m2")
    assert list(spread(Group("m", members), ("a", "b", "c"), quorum=True, witness="w").values()) == ["a", "b", "c"]
    assert spread(Group("m", ("api-west", "api-east")), ("east", "west"), quorum=False, witness="w")["api-west"] == "west"


SHOP = """
services:
  proxy: {image: nginx, ports: ["8088:80"], depends_on: [app-1, app-2]}
  app-1: {build: ., depends_on: [db], environment: {DATABASE_URL: "postgres://db/shop"}}
  app-2: {build: ., depends_on: [db], environment: {DATABASE_URL: "postgres://db/shop"}}
  db: {image: "postgres:16", volumes: ["./data:/var/lib/postgresql/data"]}
"""
NGINX = {
    "proxy": {
        "nginx.conf": "upstream u { server app-1:8000; server app-2:8000; }\nserver { location / { proxy_pass http://u; } }"
    }
}


def test_a_shop() -> None:
    """The proxy is the entry and outside, replicas are apart, and what stands alone is called that."""
    made = plan(SHOP, NGINX)
    assert sites(made) == {"proxy": "outside", "app-1": "a", "app-2": "b", "db": "a"}
    assert (made.entry.service, made.entry.port) == ("proxy", 80)
    assert [(one.name, one.path) for one in made.journeys] == [("app.get", "/")]
    assert made.alone == ("db",)
    assert {one.name: list(one.expose) for one in made.placed}["app-2"] == [8000]
    assert next(one for one in made.placed if one.name == "db").data == {"/var/lib/postgresql/data": "chaoslab-db-data"}
    assert "PostgreSQL has no other replica" in notes(made)


@pytest.mark.parametrize(
    ("count", "places", "expected"),
    [
        (2, ("a", "b"), {"web": ("a", 1), "web-2": ("b", 1)}),
        (5, ("a", "b"), {"web": ("a", 3), "web-2": ("b", 2)}),
        (2, ("a", "b", "c"), {"web": ("a", 1), "web-2": ("b", 1)}),
        (7, ("a", "b", "c"), {"web": ("a", 3), "web-2": ("b", 2), "web-3": ("c", 2)}),
    ],
)
@pytest.mark.parametrize("how", ["scale: {}", "deploy: {{replicas: {}}}"])
def test_several_containers_of_one_service_are_spread(
    count: int, places: tuple[str, ...], expected: dict[str, tuple[str, int]], how: str
) -> None:
    """Known bad: all of them in one site. Each site gets a service of its own, which answers to the name of the first."""
    made = plan(
        f"""
services:
  lb: {{image: nginx, ports: ["80:80"], environment: {{UPSTREAM: "http://web:8000"}}}}
  web: {{image: shop, {how.format(count)}, depends_on: [db]}}
  db: {{image: "postgres:16"}}
""",
        sites=places,
    )
    found = {one.name: one for one in made.placed if one.service == "web"}
    assert {name: (one.site, one.containers) for name, one in found.items()} == expected
    assert [(one.extends, one.aliases) for one in found.values()] == [("", ()), *[("web", ("web",))] * (len(expected) - 1)]
    assert all(list(one.expose) == [8000] for one in found.values())
    assert made.alone == ("db",)
    assert f"of the {count} containers of web, spread" in found["web-2"].why


@pytest.mark.parametrize(
    ("service", "also"),
    [
        ("image: postgres, scale: 2", ""),  # a database by its image
        ("image: shop, scale: 2, volumes: ['files:/f']", ""),  # and by what it keeps
        ("image: shop, scale: 2, volumes: ['./files:/f']", ""),
        ("image: shop, scale: 2, network_mode: 'service:lb'", ""),
        ("image: shop, scale: 2", "x-2: {image: shop}"),  # it has another replica already
        ("image: shop, scale: 2", "migrate: {image: y, depends_on: {x: {condition: service_completed_successfully}}}"),  # a job
    ],
)
def test_containers_that_cannot_be_taken_apart(service: str, also: str) -> None:
    """What they share would be in two sites at once. Where another file has a say, too, they stay as they are."""
    text = f"services:\n  lb: {{image: nginx, ports: ['80:80']}}\n  x: {{{service}}}\n  {also}\n"
    assert not any(one.extends or one.containers for one in plan(text).placed)
    mine = project("services: {lb: {image: nginx, ports: ['80:80']}, x: {image: shop, scale: 2}}")
    others = plan_of(replace(mine, whole=frozenset({"lb"})), Answers())
    assert [one.name for one in others.placed] == ["lb", "x"]


def test_a_name_that_is_taken_is_not_given_to_a_part() -> None:
    made = plan("services: {lb: {image: nginx, ports: ['80:80']}, x: {image: shop, scale: 2}, x-2: {image: other}}")
    assert [one.name for one in made.placed if one.service == "x"] == ["x", "x-2-2"]


def test_one_container_of_the_entry_remains() -> None:
    """It is in no site, where several would need one address. Known bad: what was written did not pass `check`."""
    made = plan("services: {web: {image: shop, ports: ['8080-8081:80'], scale: 2}, db: {image: 'postgres:16'}}")
    entry = made.placed[0]
    assert (entry.name, entry.site, entry.containers) == ("web", "outside", 1)


def test_services_that_have_to_stay_together() -> None:
    """One that shares a network or a volume stands where the other stands."""
    made = plan("""
services:
  web: {image: nginx, ports: ["80:80"]}
  api-1: {image: api}
  api-2: {image: api, volumes: ["files:/f"]}
  sidecar: {image: proxy, network_mode: "service:api-2"}
  backup: {image: backup, volumes: ["files:/f"]}
""")
    assert sites(made)["sidecar"] == sites(made)["backup"] == sites(made)["api-2"] == "b"


def test_jobs_that_end_by_design() -> None:
    """One that nobody waits for is waited for by the entry, unless it waits for the entry itself."""
    text = """
services:
  web: {image: shop, ports: ["80:80"]}
  migrate: {image: shop, command: migrate}
  seed: {image: shop, command: seed, depends_on: [web]}
  prepare: {image: shop, command: prepare}
  worker: {image: shop, command: work, depends_on: {prepare: {condition: service_completed_successfully}}}
"""
    assert jobs_of(project(text)) == {"migrate", "seed", "prepare"}
    waits = {one.name: one.waits_for for one in plan(text).placed}
    assert waits == {"web": ("migrate",), "migrate": (), "seed": (), "prepare": (), "worker": ()}


# --- the entry and its journeys ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("services", "entry", "port"),
    [
        ("{db: {image: postgres, ports: ['5432:5432']}, api: {image: shop, ports: ['9000:9000']}}", "api", 9000),
        ("{api: {image: shop, ports: ['8000:8000']}, lb: {image: haproxy, ports: ['8404:8404', '80:8080']}}", "lb", 8080),
        ("{lb: {image: haproxy, ports: ['8404:8404', '80:3001']}}", "lb", 3001),
        ("{admin: {image: pgadmin, ports: ['5050:80']}, gateway: {image: own, ports: ['8080:8080']}}", "gateway", 8080),
        ("{api: {image: shop, expose: ['9000']}, db: {image: postgres}}", "api", 9000),
        ("{dns: {image: coredns, ports: ['53:53/udp']}}", "dns", 53),
        ("{thing: {image: unknown}}", "thing", 80),
    ],
)
def test_the_entry(services: str, entry: str, port: int) -> None:
    """What is published and speaks HTTP, proxies first; where nothing is known, something is named all the same."""
    found = entry_of(project(f"services: {services}"))
    assert (found.service, found.port) == (entry, port)


def test_routes_of_proxies() -> None:
    """Each location is a journey of the service behind it; a health check's path is better than `/`."""
    text = """
services:
  nginx: {image: nginx, ports: ["80:80"]}
  site: {image: site, healthcheck: {test: "curl -f http://localhost:3000/healthz"}}
  api: {image: api}
"""
    conf = """
server {
  # location /old/ { proxy_pass http://site; }
  location / { proxy_pass http://site:3000; }
  location /api/ { proxy_pass http://api:8000/; }
  location ~ \\.php$ { fastcgi_pass api:9000; }
}"""
    made = plan(text, {"nginx": {"default.conf": conf}})
    assert [(one.service, one.path) for one in made.journeys] == [("site", "/healthz"), ("api", "/api/")]
    caddy = plan(
        text.replace("nginx", "caddy"),
        {"caddy": {"Caddyfile": ":80 {\n  reverse_proxy /api/* api:8000\n  reverse_proxy site:3000\n}"}},
    )
    assert [(one.service, one.path) for one in caddy.journeys] == [("api", "/api/"), ("site", "/healthz")]
    haproxy = plan(text.replace("nginx", "haproxy"), {"haproxy": {"haproxy.cfg": "backend b\n  server s1 api:8000 check\n"}})
    assert [(one.service, one.path) for one in haproxy.journeys] == [("api", "/")]


def test_an_own_image_that_hands_requests_on() -> None:
    """A proxy is known by its files where the image has another name; an application with settings of its own is none."""
    text = "services: {lb: {image: own/base, ports: ['80:80']}, app: {image: shop, ports: ['81:81']}}"
    made = plan(text, {"lb": {"Caddyfile": ":80 {\n  reverse_proxy app:8000\n}"}})
    assert (made.entry.service, [one.service for one in made.journeys]) == ("lb", ["app"])
    assert [one.service for one in plan(text, {"lb": {"app.conf": "backend = app:8000"}}).journeys] == ["lb"]


def test_a_proxy_whose_files_name_nobody() -> None:
    """Known bad: a front end of static files, whose page is called a journey of the back end; it would always pass."""
    text = "services: {front: {build: f, ports: ['80:80'], depends_on: [back]}, back: {build: b}}"
    static = plan(text, {"front": {"Dockerfile": "FROM nginx\nCOPY . /usr/share/nginx/html"}})
    assert [one.service for one in static.journeys] == ["front"]
    assert static.burnt == ()
    assert "a fire that users do not notice is inconclusive" in notes(static)
    named = plan(
        text.replace("depends_on", "environment: [UPSTREAM=back:9000], depends_on"), {"front": {"Dockerfile": "FROM nginx"}}
    )
    assert [one.service for one in named.journeys] == ["back"]
    assert named.burnt == ("back",)


def test_labels_of_traefik() -> None:
    """Path, host and port stand in labels; with Docker's socket it calls by IP, which cannot cross."""
    made = plan("""
services:
  traefik: {image: "traefik:v3", ports: ["80:80"], volumes: ["/var/run/docker.sock:/var/run/docker.sock"]}
  api:
    image: api
    labels:
      - traefik.http.routers.api.rule=Host(`shop.local`) && PathPrefix(`/api`)
      - traefik.http.services.api.loadbalancer.server.port=8000
""")
    assert [(one.service, one.path, one.host) for one in made.journeys] == [("api", "/api", "shop.local")]
    assert 8000 in made.placed[1].expose
    assert "traefik: cannot cross sites: with Docker's socket" in notes(made)


def test_an_openapi_document() -> None:
    """Only what GET alone can ask: no path parameters, nothing required, no login."""
    paths = {
        "/items": {"get": {}},
        "/items/{id}": {"get": {}},
        "/search": {"get": {"parameters": [{"name": "q", "in": "query", "required": True}]}},
        "/me": {"get": {"security": [{"bearer": []}]}},
        "/orders": {"post": {}},
    }
    served = Served({"servers": [{"url": "http://x/v1"}], "paths": paths}, "openapi.json", {"/": 404})
    assert [(one.path, one.status) for one in plan(SHOP, NGINX, served).journeys] == [("/v1/items", 200)]
    odd = Served({"paths": ["/items"], "servers": "http://x"}, "openapi.json")
    assert [one.path for one in plan(SHOP, NGINX, odd).journeys] == ["/"]


def test_what_answers_now_is_what_is_good() -> None:
    """A redirect is a good answer of `/`, and better than a health check; an error that is there now is none."""
    healthy = SHOP.replace("app-1: {", "app-1: {healthcheck: {test: curl http://localhost:8000/up}, ")
    assert [one.path for one in plan(healthy, NGINX, Served({}, "", {"/": 200})).journeys] == ["/"]
    checked = plan(healthy, NGINX, Served({}, "", {"/": 404}))
    assert [one.path for one in checked.journeys] == ["/up"]
    assert "app: GET /up is a health check: if it reads no data, a pass shows nothing about db" in notes(checked)
    replicated = healthy + "  db-replica: {image: 'postgres:16'}\n  worker: {build: ., command: work, depends_on: [db]}\n"
    # Known bad: the worker was named, which no request could show, and a replicated database was not.
    named = "app: GET /up is a health check: if it reads no data, a pass shows nothing about db |"
    assert named in notes(plan(replicated, NGINX, Served({}, "", {"/": 404})))
    assert [one.status for one in plan(SHOP, NGINX, Served({}, "", {"/": 302})).journeys] == [302]
    assert [one.status for one in plan(SHOP, NGINX, Served({}, "", {"/": 503})).journeys] == [200]


# --- ports ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("service", "texts", "port"),
    [
        ("{image: x, healthcheck: {test: [CMD, curl, 'http://127.0.0.1:8123/']}}", {}, 8123),
        ("{image: x, command: uvicorn app:app --port 8123}", {}, 8123),
        ("{image: x, command: [gunicorn, -b, '0.0.0.0:8123', app]}", {}, 8123),
        ("{image: x, environment: [PORT=8123]}", {}, 8123),
        ("{build: ., container_name: it}", {"other": {"conf": "server it:8123;"}}, 8123),
        ("{build: .}", {"one": {"Dockerfile": "FROM python\nEXPOSE 53/udp 8123/tcp\n"}}, 8123),
        ("{image: 'redis:7'}", {}, 6379),
    ],
)
def test_ports_that_the_file_does_not_declare(service: str, texts: dict[str, dict[str, str]], port: int) -> None:
    """Known bad: a port that nobody knows is not carried between sites, so calls to it hang."""
    made = project(f"services: {{one: {service}, other: {{image: y}}}}", texts)
    assert list(ports_of(made.services["one"], made)) == [port]


# --- known servers --------------------------------------------------------------------------------------------------

CLUSTERS = {  # image, what sets it right for the service `n1`
    "Patroni": ("ghcr.io/zalando/spilo-16:3.2", "environment: {PATRONI_POSTGRESQL_CONNECT_ADDRESS: 'n1:5432'}"),
    "PostgreSQL": ("bitnami/postgresql:16", "environment: {POSTGRESQL_REPLICATION_MODE: master}"),
    "Redis Sentinel": ("bitnami/redis-sentinel", "environment: {REDIS_SENTINEL_RESOLVE_HOSTNAMES: 'yes'}"),
    "Redis": ("redis:7-alpine", "command: redis-server --replica-announce-ip n1"),
    "Valkey": ("valkey/valkey:8", "command: [valkey-server, --replica-announce-ip, n1]"),
    "RabbitMQ": ("rabbitmq:3-management", "environment: {RABBITMQ_NODENAME: rabbit@n1}"),
    "NATS": ("nats:2", "command: --cluster_advertise n1:6222"),
    "etcd": ("quay.io/coreos/etcd:v3.5", "command: etcd --initial-advertise-peer-urls http://n1:2380"),
    "MongoDB": ("mongo:7", "command: mongod --replSet rs0 # n1:27017"),
    "Kafka": ("confluentinc/cp-kafka:7.6", "environment: {KAFKA_ADVERTISED_LISTENERS: 'PLAINTEXT://n1:9092'}"),
    "ZooKeeper": ("zookeeper:3.9", "environment: {ZOO_SERVERS: 'server.1=n1:2888:3888;2181'}"),
    "MariaDB Galera": ("bitnami/mariadb-galera", "command: mysqld --wsrep_node_address=n1"),
    "MySQL or MariaDB": ("mariadb:11", "environment: {MARIADB_REPLICATION_MODE: master}"),
    "MinIO": ("quay.io/minio/minio", "command: server http://n1:9000/data http://n2:9000/data"),
    "Elasticsearch or OpenSearch": ("elasticsearch:8.13", "environment: ['network.publish_host=n1']"),
    "CockroachDB": ("cockroachdb/cockroach:v23", "command: start --advertise-addr=n1"),
    "Vault": ("hashicorp/vault", "environment: {VAULT_CLUSTER_ADDR: 'https://n1:8201'}"),
}
ALONE_OR_NOT_AT_ALL = {
    "Redis Cluster": ("bitnami/redis-cluster", "IP addresses"),
    "Consul": ("hashicorp/consul", "UDP"),
    "Cassandra": ("cassandra:5", "IP addresses"),
    "WireGuard": ("linuxserver/wireguard", "UDP"),
    "a DNS server": ("pihole/pihole", "UDP"),
}
OTHERS = {
    "Memcached": "memcached:1",
    "SQL Server": "mcr.microsoft.com/mssql/server:2022-latest",
    "nginx": "nginxinc/nginx-unprivileged",
    "HAProxy": "haproxy:2.9",
    "Traefik": "traefik:v3.0",
    "Caddy": "caddy",
    "Envoy": "envoyproxy/envoy:v1.30",
    "Apache httpd": "httpd:2.4",
    "Kong": "kong:3",
}


def test_every_known_server_has_a_row() -> None:
    """A server that lands gets its test."""
    assert {server.title for server in SERVERS} == CLUSTERS.keys() | ALONE_OR_NOT_AT_ALL.keys() | OTHERS.keys()


@pytest.mark.parametrize("title", CLUSTERS)
def test_the_one_setting_that_a_server_needs(title: str) -> None:
    """Replicas in two sites are told what they lack, by name, and nothing once they have it."""
    image, settled = CLUSTERS[title]
    text = "services: {{web: {{image: shop, ports: ['80:80']}}, n1: {{image: {image!r}{more}}}, n2: {{image: {image!r}}}}}"
    lacking = plan(text.format(image=image, more=""))
    assert {one.name: one.title for one in lacking.placed}["n1"] == title
    assert f"n1: {title} in two sites" in notes(lacking)
    settled = settled.partition(" #")[0] if title != "MongoDB" else "environment: {MEMBER: 'n1:27017'}"
    assert f"n1: {title} in two sites" not in notes(plan(text.format(image=image, more=f", {settled}")))


def test_a_setting_is_added_to_the_command_that_is_there() -> None:
    """Known bad: `command: redis-server --replica-announce-ip n2`, with which n2 would be a replica of nothing any more."""
    said = notes(
        plan("""
services:
  web: {image: shop, ports: ["80:80"]}
  n1: {image: "redis:7"}
  n2: {image: "redis:7", command: redis-server --replicaof n1 6379}
  m1: {image: "quay.io/minio/minio", command: server /data}
  m2: {image: "quay.io/minio/minio", command: server /data}
""")
    )
    assert "the service's name | command: redis-server --replica-announce-ip n1" in said
    assert "the service's name | at the end of its command: --replica-announce-ip n2" in said
    assert "m1: MinIO in two sites has to announce the service's name | command: server with the service names" in said


@pytest.mark.parametrize(
    ("image", "setting"),
    [
        ("redis:7", "command: redis-server --replicaof n1 6379"),
        ("redis:7", "command: redis-server --slaveof n1 6379"),
        ("valkey/valkey:8", "command: [valkey-server, --replicaof, n1 6379]"),
        ("bitnami/redis:7", "environment: {REDIS_REPLICATION_MODE: slave}"),
        ("bitnami/valkey:8", "environment: {VALKEY_REPLICATION_MODE: replica}"),
    ],
)
def test_a_copy_that_nothing_promotes(image: str, setting: str) -> None:
    """Known bad: two replicas in two sites, as if one could take over, when the second refuses every write for ever."""
    text = f"""
services:
  web: {{image: shop, ports: ["80:80"]}}
  n1: {{image: {image!r}}}
  n2: {{image: {image!r}, {setting}}}
"""
    said = notes(plan(text))
    assert "n2: it only copies another server, and no Sentinel here promotes it" in said
    assert "n1: it only copies" not in said
    assert "it only copies" not in notes(plan(f"{text}  guard: {{image: 'redis:7', command: redis-sentinel /sentinel.conf}}\n"))


@pytest.mark.parametrize("title", ALONE_OR_NOT_AT_ALL)
def test_servers_that_cannot_cross(title: str) -> None:
    """It is said, with the reason, instead of a run that hangs."""
    image, why = ALONE_OR_NOT_AT_ALL[title]
    said = notes(
        plan(f"services: {{web: {{image: shop, ports: ['80:80']}}, n1: {{image: {image!r}}}, n2: {{image: {image!r}}}}}")
    )
    assert "cannot cross sites" in said
    assert why in said


@pytest.mark.parametrize("title", OTHERS)
def test_other_servers(title: str) -> None:
    found = server_of(Service("x", OTHERS[title]))
    assert found is not None
    assert found.title == title


@pytest.mark.parametrize(
    "image", ["oliver006/redis_exporter", "x/postgres-backup-local", "mysql-backup", "registry:5000/shop", "kafka-ui"]
)
def test_images_that_only_sound_like_a_server(image: str) -> None:
    """Known bad: an exporter taken for the server that it watches."""
    assert server_of(Service("x", image)) is None


def test_what_goes_around_the_links_is_said() -> None:
    """The host's network, UDP, static addresses, shared volumes, Docker's socket, several containers of one service."""
    said = notes(
        plan("""
services:
  web: {image: shop, ports: ["80:80", "443:443/udp"], environment: {API: "http://172.20.0.5:8000"}, volumes: ["files:/f"]}
  api-1: {image: api, networks: {default: {ipv4_address: 172.20.0.5}}, volumes: ["files:/f"]}
  api-2: {image: api, volumes: ["files:/f", "./up:/up"]}
  host: {image: agent, network_mode: host}
  agent: {image: agent2, volumes: ["/var/run/docker.sock:/var/run/docker.sock:ro"]}
  many: {image: worker, deploy: {replicas: 3}, volumes: ["jobs:/jobs"]}
""")
    )
    for sentence in (
        "web: UDP port 443 cannot cross sites",
        "api-1: cannot cross sites: API of web calls it by its IP address 172.20.0.5 | its name, api-1, there",
        "api-1: files is shared with",
        "host: network_mode host bypasses the links between sites; a run refuses it",
        " | services: {host: {network_mode: !reset null}}",
        "agent: it uses Docker's socket",
        "many: its 3 containers are one Compose service, and therefore all in one site (a)",
        "api-2: a run works on a copy of ./up",
    ):
        assert sentence in said, said
