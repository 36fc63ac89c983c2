"""Servers that are known by their image: their ports, their data, and what each needs to run in two sites. Pure.

Between sites a connection is made by a name and carried as TCP. So a server that announces its address has to announce its
service's name; one that needs UDP, or announces IP addresses, cannot cross sites.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from chaoslab.adopt.facts import Service


@dataclass(frozen=True)
class Server:
    """`setting`: the one that replicas in different sites need, with {name} for the service's; `is_set` finds it, as a regular
    expression over command, environment and files. `cannot`: why its replicas cannot be in different sites. `quorum`: a
    majority of its members must be running. `http`: its ports speak HTTP. `is_proxy`: it forwards requests.
    """

    title: str
    images: str
    ports: tuple[int, ...]
    data: tuple[str, ...] = ()
    setting: str = ""
    is_set: str = ""
    cannot: str = ""
    quorum: bool = False
    http: bool = False
    is_proxy: bool = False

    def needs(self, service: Service) -> str | None:
        """The setting that a service lacks, as one line."""
        is_set = self.is_set.format(name=re.escape(service.name))
        if not self.setting or (is_set and re.search(is_set, _settings_of(service), re.I)):
            return None
        setting = self.setting.format(name=service.name)
        options = re.fullmatch(r"command: (?:[\w-]+ )?(--.*)", setting)
        # a `command` in an overlay replaces the entire command
        return f"at the end of its command: {options[1]}" if options and service.command else setting


# The first whose `images` has the last part of the image's path, or all of it, counts. An exporter is not its server.
SERVERS = (
    Server(
        "Patroni",
        r"(patroni|spilo)[\w-]*",
        (5432, 8008),
        ("/var/lib/postgresql/data", "/home/postgres/pgdata"),
        "environment: {{PATRONI_POSTGRESQL_CONNECT_ADDRESS: '{name}:5432', PATRONI_RESTAPI_CONNECT_ADDRESS: '{name}:8008'}}",
        r"connect_address\W+{name}\b",
    ),
    Server(
        "PostgreSQL",
        r"(postgres|postgresql|postgresql-repmgr|postgis|timescaledb|timescaledb-ha|pgvector)",
        (5432,),
        ("/var/lib/postgresql/data", "/bitnami/postgresql", "/var/lib/postgresql"),
        "a standby with primary_conninfo 'host=<the primary's service name>', and something that promotes it, such as Patroni",
        r"primary_conninfo|REPLICATION_MODE|REPMGR|MASTER_HOST|PRIMARY_HOST",
    ),
    Server(
        "Redis Sentinel",
        r"(redis|valkey)-sentinel",
        (26379,),
        (),
        "sentinel resolve-hostnames yes, and sentinel announce-hostnames yes (with sentinel announce-ip {name})",
        r"resolve-hostnames\s+yes|RESOLVE_HOSTNAMES",
        quorum=True,
    ),
    Server(
        "Redis Cluster",
        r"(redis|valkey)-cluster",
        (6379, 16379),
        ("/data", "/bitnami/redis/data"),
        cannot="its members announce IP addresses to each other",
    ),
    Server(
        "Redis",
        r"(redis|redis-stack|redis-stack-server|keydb|dragonfly)",
        (6379,),
        ("/data", "/bitnami/redis/data"),
        "command: redis-server --replica-announce-ip {name}",
        r"replica-announce-ip\W+{name}\b|REPLICA_IP",
    ),
    Server(
        "Valkey",
        r"(valkey|valkey-bundle)",
        (6379,),
        ("/data", "/bitnami/valkey/data"),
        "command: valkey-server --replica-announce-ip {name}",
        r"replica-announce-ip\W+{name}\b|REPLICA_IP",
    ),
    Server(
        "RabbitMQ",
        r"rabbitmq",
        (5672, 4369, 25672),
        ("/var/lib/rabbitmq", "/bitnami/rabbitmq"),
        "hostname: {name}, and environment: {{RABBITMQ_NODENAME: 'rabbit@{name}'}}",
        r"RABBITMQ_NODENAME=\w+@{name}\b|RABBITMQ_NODE_NAME=\w+@{name}\b",
        quorum=True,
    ),
    Server(
        "NATS",
        r"nats(-streaming)?",
        (4222, 6222),
        ("/data",),
        "command: --cluster_advertise {name}:6222",
        r"cluster_advertise\W+{name}\b|advertise:\s*\W?{name}\b",
        quorum=True,
    ),
    Server(
        "etcd",
        r"etcd",
        (2379, 2380),
        ("/etcd-data", "/bitnami/etcd", "/default.etcd"),
        "command: etcd --initial-advertise-peer-urls http://{name}:2380 --advertise-client-urls http://{name}:2379",
        r"advertise.peer.urls\W+https?://{name}\b",
        quorum=True,
    ),
    Server(
        "MongoDB",
        r"(mongo|mongodb|mongodb-(community|enterprise)-server|percona-server-mongodb)",
        (27017,),
        ("/data/db", "/bitnami/mongodb"),
        "rs.initiate with host: '{name}:27017' for this member",
        r"{name}:27017|ADVERTISED_HOSTNAME={name}\b",
        quorum=True,
    ),
    Server(
        "Kafka",
        r"(kafka|cp-kafka|cp-server|kafka-native|redpanda)",
        (9092, 9093),
        ("/var/lib/kafka/data", "/bitnami/kafka"),
        "environment: {{KAFKA_ADVERTISED_LISTENERS: 'PLAINTEXT://{name}:9092'}}",
        r"advertise\S*[=\s]\S*://{name}:",
        quorum=True,
    ),
    Server(
        "ZooKeeper",
        r"(zookeeper|cp-zookeeper)",
        (2181, 2888, 3888),
        ("/data", "/var/lib/zookeeper/data"),
        "environment: {{ZOO_SERVERS: 'server.1={name}:2888:3888;2181 …'}}",
        r"server\.\d+={name}:|ZOOKEEPER_SERVERS",
        quorum=True,
    ),
    Server(
        "MariaDB Galera",
        r"(mariadb-galera|percona-xtradb-cluster|galera)",
        (3306, 4567, 4568, 4444),
        ("/var/lib/mysql", "/bitnami/mariadb"),
        "command: --wsrep_node_address={name}, with the members' service names in wsrep_cluster_address",
        r"wsrep.node.address\W+{name}\b",
        quorum=True,
    ),
    Server(
        "MySQL or MariaDB",
        r"(mysql|mysql-server|mariadb|percona|percona-server)",
        (3306,),
        ("/var/lib/mysql", "/bitnami/mariadb", "/bitnami/mysql/data"),
        "a replica with CHANGE MASTER TO MASTER_HOST='<the primary's service name>', and something that promotes it",
        r"REPLICATION_MODE|MASTER_HOST|report.host",
    ),
    Server(
        "MinIO",
        r"minio",
        (9000,),
        ("/data", "/bitnami/minio/data"),
        "command: server with the service names of all members, such as http://{name}:9000/data",
        r"server\s.*https?://",
        quorum=True,
        http=True,
    ),
    Server(
        "Consul",
        r"consul",
        (8500, 8300),
        ("/consul/data", "/bitnami/consul"),
        cannot="its members gossip over UDP, and announce IP addresses",
        quorum=True,
    ),
    Server(
        "Cassandra",
        r"(cassandra|scylla)",
        (9042, 7000),
        ("/var/lib/cassandra", "/var/lib/scylla"),
        cannot="its members announce IP addresses to each other",
    ),
    Server(
        "Elasticsearch or OpenSearch",
        r"(elasticsearch|opensearch)",
        (9200, 9300),
        ("/usr/share/elasticsearch/data", "/usr/share/opensearch/data"),
        "environment: {{network.publish_host: {name}}}",
        r"publish_host\W+{name}\b",
        quorum=True,
        http=True,
    ),
    Server(
        "CockroachDB",
        r"cockroach",
        (26257, 8080),
        ("/cockroach/cockroach-data",),
        "command: --advertise-addr={name}",
        r"advertise-addr\W+{name}\b",
        quorum=True,
    ),
    Server(
        "Vault",
        r"(vault|openbao)",
        (8200, 8201),
        ("/vault/data",),
        "environment: {{VAULT_CLUSTER_ADDR: 'https://{name}:8201'}}",
        r"CLUSTER_ADDR\W+https?://{name}\b",
        http=True,
    ),
    Server("Memcached", r"memcached", (11211,)),
    Server("SQL Server", r"(mssql|mssql/server|azure-sql-edge)", (1433,), ("/var/opt/mssql",)),
    Server("WireGuard", r"wireguard", (), cannot="it speaks UDP"),
    Server("a DNS server", r"(pihole|coredns|dnsmasq|bind9|unbound)", (53,), cannot="it speaks UDP"),
    Server("nginx", r"(nginx|nginx-unprivileged|openresty|angie)", (80,), http=True, is_proxy=True),
    Server("HAProxy", r"haproxy", (), http=True, is_proxy=True),
    Server("Traefik", r"traefik", (80,), http=True, is_proxy=True),
    Server("Caddy", r"caddy", (80,), http=True, is_proxy=True),
    Server("Envoy", r"envoy(-dev|-distroless|-contrib)?", (), http=True, is_proxy=True),
    Server("Apache httpd", r"httpd", (80,), http=True, is_proxy=True),
    Server("Kong", r"kong", (8000,), http=True, is_proxy=True),
)


def only_copies(service: Service) -> bool:
    """Whether it is configured as a replica of another Redis or Valkey, which takes no writes until it is promoted."""
    return re.search(r"(replicaof|slaveof)\W+\w|REPLICATION_MODE=(slave|replica)", _settings_of(service), re.I) is not None


def _settings_of(service: Service) -> str:
    """Its environment, its command and its files, as one text."""
    environment = (f"{key}={value}" for key, value in service.environment.items())
    return "\n".join([*environment, service.command, *service.texts.values()])


def server_of(service: Service) -> Server | None:
    """The server that runs in a service. A Dockerfile's own base image counts where the service names no known image."""
    stages = re.findall(r"(?im)^\s*FROM\s+(?:--\S+\s+)*(\S+)", service.texts.get("Dockerfile", ""))
    for image in [service.repository, *(Service("", stage).repository for stage in stages[-1:])]:
        for server in SERVERS:
            if any(re.fullmatch(server.images, part, re.IGNORECASE) for part in (image.rpartition("/")[2], image)):
                is_sentinel = "sentinel" in service.command and server.title in ("Redis", "Valkey")
                return next(one for one in SERVERS if one.title == "Redis Sentinel") if is_sentinel else server
    return None
