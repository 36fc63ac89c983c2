"""Which Compose features work, as the table in compose/README.md has it: each row that `check` speaks of has its case."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from chaoslab.cli.check import check_command
from chaoslab.spec.stackfile.compose import ComposeFile, load_stack, read_stack
from chaoslab.spec.stackfile.profiles import active_profiles

README = Path(__file__).parents[2] / "compose/README.md"
_ROW = re.compile(r"^\| (.+?) \| (.+?) \| (?:(error|warning|note) `(compose\.[a-z-]+)`)?.* \|$", re.MULTILINE)

# What is put into the file below, and the rule, the level and the line that come of it.
CASES = [
    ("web-a", "profiles: [debug]", "compose.profile-left-out", "note", 7),
    ("jobs", "depends_on: {off: {condition: service_started}}", "compose.profile-needed", "error", 13),
    ("web-a", "depends_on: {web-b: {condition: service_started, restart: true}}", "compose.dependency-restart", "note", 7),
    ("web-a", "depends_on: [web-a]", "compose.circle", "error", 7),
    ("web-a", "links: ['nobody:db']", "compose.link-unknown", "error", 7),
    ("web-a", "links: ['web-b:entry']", "compose.link-unknown", "error", 7),
    ("web-a", "external_links: [other]", "compose.external-links", "warning", 7),
    ("web-a", "network_mode: host", "compose.network-mode", "error", 7),
    ("web-a", "network_mode: 'service:web-b'", "compose.network-mode", "error", 7),
    ("web-a", "network_mode: 'container:mine'", "compose.network-mode", "error", 7),
    ("web-a", "ports: ['53:53/udp']", "compose.udp", "warning", 7),
    ("web-a", "ports: [{target: 53, protocol: udp}]", "compose.udp", "warning", 7),
    ("web-a", "scale: 3", "compose.containers", "note", 7),
    ("web-a", "deploy: {replicas: 2}", "compose.containers", "note", 7),
    ("entry", "deploy: {replicas: 2}", "compose.containers-outside", "error", 4),
    ("web-a", "volumes: ['/var/run/docker.sock:/var/run/docker.sock:ro']", "compose.engine-socket", "warning", 7),
    ("web-a", "volumes: ['./data:/data']", "compose.own-data", "note", 7),
    ("web-a", "volumes: [{type: bind, source: ./data, target: /data}]", "compose.own-data", "note", 7),
    ("web-a", "volumes: ['theirs:/data']", "compose.own-data", "note", 7),
    ("web-a", "volumes: ['both:/data']", "compose.volume-shared", "warning", 10),
    ("web-a", "networks: {net: {ipv4_address: 172.99.0.9}}", "compose.static-address", "warning", 7),
    ("web-a", "environment: {DB: 'tcp://172.99.0.5:5432'}", "compose.address-literal", "warning", 7),
    ("web-a", "networks: {net: {ipv6_address: 'fd12::9'}}", "compose.static-address", "warning", 7),
    ("web-a", "environment: {DB: 'tcp://[fd12:3::5]:5432'}", "compose.address-literal", "warning", 7),
    ("web-a", "environment: {DB: 'fd12::9'}", "compose.address-literal", "warning", 7),
    ("web-a", "command: [serve, --upstream, '10.1.2.3:80']", "compose.address-literal", "warning", 7),
    ("web-a", "ports: []", "compose.no-port", "note", 2),
    ("net", "internal: true", "compose.network-internal", "note", 17),
    ("mine", "external: true", "compose.config-external", "error", 19),
]
BASE = """\
services:
  entry:
    expose: [80]
    # entry
  web-a:
    image: nobody/has-this
    # web-a
  web-b:
    image: nobody/has-this
    volumes: ["both:/data"]
    expose: [80]
  jobs:
    # jobs
  off: {image: x, profiles: [off]}
networks:
  net:
    # net
configs:
  mine: # mine
volumes: {both: {}, theirs: {external: true}}
"""


def written(folder: Path, where: str, what: str) -> Path:
    """The file with one thing in it. Sites are given by an overlay, so that lines stay."""
    text = BASE.replace(f"# {where}\n", f"{what}\n" if where != "mine" else f"{{{what}}}\n")
    if "net:" not in what:
        text = text.replace("    # net\n", "    ipam: {config: [{subnet: 172.99.0.0/24}]}\n")
    if where != "jobs":
        text = text.replace("    # jobs\n", "    expose: [1]\n")
    file = folder / "compose.yaml"
    file.write_text(text)
    (folder / "chaoslab.yaml").write_text(
        "services:\n"
        + "".join(
            f"  {name}: {{labels: {{chaoslab.site: {site}}}}}\n"
            for name, site in (("web-a", "a"), ("web-b", "b"), ("jobs", "a"))
        )
        + "x-chaoslab: {sites: [a, b], entry: 'entry:80'}\n"
    )
    return file


def told(folder: Path, where: str, what: str) -> set[tuple[str, str, int]]:
    """The rules, levels and lines that a file brings beyond those of the file without it."""
    written(folder, where, what)
    _, problems = read_stack([folder / "compose.yaml", folder / "chaoslab.yaml"])
    return {(one.rule, one.level, one.line) for one in problems}


@pytest.mark.parametrize(("where", "what", "rule", "level", "line"), CASES, ids=[f"{case[0]} {case[1]}" for case in CASES])
def test_it_is_told_at_its_place(where: str, what: str, rule: str, level: str, line: int, tmp_path: Path) -> None:
    """Known bad: without it nothing of this rule is said."""
    assert (rule, level, line) in told(tmp_path, where, what)
    assert rule not in {found for found, _, _ in told(tmp_path, "nothing", "")} - {
        "compose.profile-left-out",
        "compose.no-port",
    }


@pytest.mark.parametrize(
    "needs",
    [
        "a: {depends_on: [b]}, b: {depends_on: [c]}, c: {depends_on: {a: {condition: service_healthy}}}",
        "a: {links: ['b:db']}, b: {depends_on: [c]}, c: {volumes_from: ['a:ro']}",
        "a: {depends_on: [b]}, b: {ipc: 'service:c'}, c: {pid: 'service:a'}",
    ],
)
def test_a_circle_is_told_with_all_that_is_in_it(tmp_path: Path, needs: str) -> None:
    """Known bad: what Compose refuses was accepted, and told by Compose alone, without a place."""
    file = tmp_path / "compose.yaml"
    for text, found in ((needs, 1), (needs.replace("c: {", "c: {image: x}, d: {"), 0)):
        file.write_text(f"services: {{{text}}}\n")
        _, problems = read_stack([file])
        circles = [one.message for one in problems if one.rule == "compose.circle"]
        assert len(circles) == found
        assert all("a → b → c → a" in one or "b → c → a → b" in one or "c → a → b → c" in one for one in circles)


def test_each_circle_is_told(tmp_path: Path) -> None:
    file = tmp_path / "compose.yaml"
    file.write_text("services: {a: {depends_on: [b]}, b: {depends_on: [a]}, c: {depends_on: [d]}, d: {depends_on: [c, a]}}\n")
    _, problems = read_stack([file])
    assert len([one for one in problems if one.rule == "compose.circle"]) == 2


@pytest.mark.parametrize(
    "text", ["8.8.8.8", "1.2.3.4.5", "127.0.0.1", "2001:db8::1", "fd12", "fd12:80", "a:fd12::9", "sha256:fdab12cd", "x10.1.2.3"]
)
def test_what_is_no_private_address_is_not_told(text: str, tmp_path: Path) -> None:
    """Known bad: a public one, or what only looks like one."""
    assert "compose.address-literal" not in {rule for rule, _, _ in told(tmp_path, "web-a", f"environment: {{X: '{text}'}}")}


def test_all_is_told_in_one_round(tmp_path: Path) -> None:
    """Errors of two kinds at once, each with its place, and nothing was started."""
    file = written(tmp_path, "web-a", "network_mode: host\n    links: [nobody]")
    file.write_text(file.read_text().replace("mine: # mine", "mine: {external: true}"))
    shown = CliRunner().invoke(check_command, [str(file), "--json"], standalone_mode=False)
    assert shown.return_value == 2
    rules = [(one["rule"], one["line"]) for one in json.loads(shown.stdout)["problems"]]
    assert rules == [("compose.network-mode", 7), ("compose.link-unknown", 8), ("compose.config-external", 20)]


def test_the_table_has_every_rule() -> None:
    """And no rule that there is not; with its level."""
    text = README.read_text()
    part = text[text.index("## Which Compose features work") :].split("\n## ", 2)[0]
    table = {(rule, level) for _, _, level, rule in _ROW.findall(part) if rule}
    sources = "".join(file.read_text() for file in (README.parents[1] / "chaoslab/spec/stackfile").glob("*.py"))
    known = set(re.findall(r'"(compose\.[a-z-]+)"', sources)) - MALFORMED
    assert {rule for rule, _ in table} == known
    assert {(rule, level) for _, _, rule, level, _ in CASES} | ALL_OUT >= table


# What works, so `check` does not report it: by the beginning of its row, the tests that show it.
SHOWN = {
    "`depends_on` with `condition`, `required: false`": (
        "docker/test_docker_health.py::test_needs_are_the_conditions_and_the_owner_of_a_shared_network",
        "spec/test_compose_support.py::test_what_is_not_required_may_be_behind_a_profile",
    ),
    "jobs: services that others wait for": (
        "docker/test_restarts.py::test_who_waits_for_a_job_starts_after_it",
        "stack/test_embedded_restarts.py::test_jobs_that_end",
    ),
    "`container_name`, `hostname`, `aliases`": (
        "docker/test_compose_stack.py::test_every_name_leads_across_the_wan",
        "docker/test_project.py::test_names_of_links_and_hosts_lead_to_their_service",
    ),
    "`network_mode`: `none`, `bridge`, `service:`": ("docker/test_project.py::test_a_neighbours_network_may_be_shared",),
    "TCP ports": ("docker/test_project.py::test_everything_is_published_on_the_loopback_alone",),
    "a name or an alias that several": ("docker/test_wan_plan.py::test_a_name_that_several_have_leads_to_the_near_ones",),
    "`extends`, `include`": ("spec/test_compose_files.py::test_include_and_extends_are_followed",),
    "`configs`, `secrets`": ("docker/test_given_files.py::test_all_of_them_are_there",),
    "named volumes": ("docker/test_project.py::test_volumes_are_the_runs_own_but_for_external_ones",),
    "read-only ones": ("docker/test_own_data.py::test_what_is_read_alone_stays",),
    "`EXPOSE` of an image": ("spec/test_compose_support.py::test_check_uses_what_an_image_exposes",),
    "`restart`, `deploy.restart_policy`": (
        "docker/test_restarts.py::test_who_ends_by_itself_is_started_again",
        "stack/test_embedded_restarts.py::test_who_ends_by_itself_is_started_again",
    ),
}


def test_every_other_row_has_its_test() -> None:
    """And no test is named that there is not."""
    text = README.read_text()
    part = text[text.index("## Which Compose features work") :].split("\n## ", 2)[0]
    cells = [line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith("| ")][1:]
    silent = [row[0] for row in cells if not any("`compose." in cell for cell in row)]
    assert len(silent) >= len(SHOWN)
    assert {row for row in silent if not row.startswith(tuple(SHOWN))} == set()
    assert {start for start in SHOWN if not any(row.startswith(start) for row in silent)} == set()
    tests = README.parents[1] / "tests"
    for file, _, name in (shown.partition("::") for all_shown in SHOWN.values() for shown in all_shown):
        assert re.search(rf"^def {name}\(", (tests / file).read_text(), re.MULTILINE), name


# Of files that Compose itself does not take.
MALFORMED = {
    *("compose.no-services", "compose.service-not-a-mapping", "compose.not-a-mapping", "compose.not-followed"),
    *("compose.labels", "compose.depends-on", "compose.ports", "compose.healthcheck"),
}
ALL_OUT = {("compose.profiles-all", "error")}


# --- profiles

ALL = """
services:
  web: {image: x, expose: [80], profiles: [one, two], labels: {chaoslab.site: a}}
  entry: {image: x, expose: [80], profiles: [one]}
x-chaoslab: {sites: [a], entry: "entry:80"}
"""


def names(compose: ComposeFile) -> list[str]:
    return [replica.name for replica in compose.replicas]


def test_all_services_with_a_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known bad: a KeyError. Without the profile one error with the cure; with it, by whatever means, the services."""
    file = tmp_path / "compose.yaml"
    file.write_text(ALL)
    monkeypatch.delenv("COMPOSE_PROFILES", raising=False)
    _, problems = read_stack([file])
    assert [(one.rule, one.line) for one in problems] == [("compose.profiles-all", 3)]
    assert "set COMPOSE_PROFILES=one" in problems[0].message
    monkeypatch.setenv("COMPOSE_PROFILES", "one")
    assert names(load_stack([file])) == ["web", "entry"]
    monkeypatch.setenv("COMPOSE_PROFILES", "*")
    assert names(load_stack([file])) == ["web", "entry"]
    monkeypatch.delenv("COMPOSE_PROFILES")
    (tmp_path / ".env").write_text("# mine\nOTHER=1\nCOMPOSE_PROFILES='one,three'\n")
    assert names(load_stack([file])) == ["web", "entry"]
    monkeypatch.setenv("COMPOSE_PROFILES", "")  # the environment goes before the file
    assert active_profiles(tmp_path) == frozenset()


def test_what_is_not_required_may_be_behind_a_profile(tmp_path: Path) -> None:
    assert not {
        level for _, level, _ in told(tmp_path, "jobs", "depends_on: {off: {condition: service_started, required: false}}")
    } & {"error"}


# --- ports of images


def test_check_uses_what_an_image_exposes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program called docker answers as Docker does. Known bad: the same file where it does not answer."""
    file = tmp_path / "compose.yaml"
    file.write_text(
        "services:\n  web: {image: 'shop/web', labels: {chaoslab.site: a}}\nx-chaoslab: {sites: [a], entry: 'web:8123'}\n"
    )
    program = tmp_path / "bin" / "docker"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    _, problems = read_stack([file])
    assert "stack.port-unknown" in {one.rule for one in problems}
    file.write_text(file.read_text().replace("shop/web", "shop/web2"))
    program.write_text('#!/bin/sh\nprintf \'["shop/web2:latest"]\\t{"8123/tcp":{},"53/udp":{}}\\n\'\n')
    assert load_stack([file]).topology().replica("web").ports == (8123,)
