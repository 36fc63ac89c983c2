"""What can go wrong while a stack comes up: one clear error with its cure, and nothing left (the fixture checks that)."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from chaoslab import process
from chaoslab.clock import Deadline
from chaoslab.errors import EnvironmentFault, NotReady, SpecError, StackError
from chaoslab.spec.stackfile.compose import load_stack
from chaoslab.stack.compose import sweep
from chaoslab.stack.compose.containers import Containers
from chaoslab.stack.compose.ready import Readiness, bases_of, readiness

pytestmark = pytest.mark.docker
IMAGE = "chaoslab/two-site:latest"
INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"


@pytest.fixture
def registry() -> Iterator[str]:
    """A registry that offers bakery:1, as far as asking for it goes."""

    class Offers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            here = self.path == "/v2/" or self.path.startswith(("/v2/bakery/manifests/1", "/v2/bakery/manifests/sha256:"))
            body = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}).encode() if here else b"{}"
            self.send_response(200 if here else 404)
            self.send_header("Content-Type", INDEX if self.path != "/v2/" else "application/json")
            self.send_header("Docker-Content-Digest", f"sha256:{hashlib.sha256(body).hexdigest()}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Offers) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def up(make_stack, file, timeout_s: float = 40.0) -> None:
    make_stack(file).up(Deadline.after(timeout_s), lambda _: None)


def ready(file) -> Readiness:
    return readiness([file], load_stack([file]).topology().replicas)


def test_an_image_that_cannot_be_had_is_named(make_stack, write_stack):
    """With the service that needs it, and how to get it."""
    file = write_stack({"shop": {"image": "nobody.invalid/has/this:1"}})
    with pytest.raises(EnvironmentFault, match=r"nobody\.invalid/has/this:1 \(of shop\)[\s\S]*cure: docker pull"):
        up(make_stack, file)


def test_a_build_that_fails_shows_its_last_lines(make_stack, write_stack, tmp_path):
    """The builder's own words."""
    (tmp_path / "Dockerfile").write_text(f"FROM {IMAGE}\nRUN echo no flour left >&2; exit 3\n")
    with pytest.raises(EnvironmentFault, match=r"docker compose build failed[\s\S]*no flour left"):
        up(make_stack, write_stack({"shop": {"build": "."}}))


def test_a_file_that_compose_does_not_take_is_the_users_fault(make_stack, write_stack):
    """Exit status 2, in Compose's words."""
    with pytest.raises(SpecError, match="mem_limit") as raised:
        up(make_stack, write_stack({"shop": {"image": IMAGE, "mem_limit": "a lot"}}))
    assert raised.value.exit_code == 2


def test_a_service_that_is_never_healthy_is_named_with_its_log(make_stack, write_stack):
    """When the time is over: its state and its last lines."""
    sick = {"image": IMAGE, "command": ["sh", "-c", "echo the oven is cold; sleep 60"]}
    sick["healthcheck"] = {"test": ["CMD", "false"], "interval": "1s", "retries": 90}
    with pytest.raises(NotReady, match=r"not healthy[\s\S]*shop: Up [\s\S]*\| the oven is cold"):
        up(make_stack, write_stack({"shop": sick}), timeout_s=15.0)


def test_a_service_that_ends_is_told_at_once(make_stack, write_stack):
    """Without waiting for the deadline: it is not coming back."""
    deadline = Deadline.after(90)
    with pytest.raises(NotReady, match=r"shop: Exited \(7\)[\s\S]*\| no shop today"):
        make_stack(write_stack({"shop": {"image": IMAGE, "command": ["sh", "-c", "echo no shop today; exit 7"]}})).up(
            deadline, lambda _: None
        )
    assert deadline.left_s > 20


def test_a_dependency_that_is_never_healthy_is_blamed(make_stack, write_stack):
    """Not only those that wait for it."""
    sick = {"image": IMAGE, "command": ["sh", "-c", "echo dough is late; sleep 60"]}
    sick["healthcheck"] = {"test": ["CMD", "false"], "interval": "1s", "retries": 2}
    shop = {"image": IMAGE, "depends_on": {"bakery": {"condition": "service_healthy"}}, "command": ["sleep", "60"]}
    with pytest.raises(NotReady, match=r"bakery: [\s\S]*health check: false: exit status 1[\s\S]*\| dough is late"):
        up(make_stack, write_stack({"bakery": sick, "shop": shop}), timeout_s=10.0)


def test_what_fails_first_and_comes_back_by_its_policy_is_well(make_stack, write_stack):
    """The policy is taken off the container, yet while the stack comes up it is kept."""
    twice = "test -e /tmp/been-here && exec sleep 60; touch /tmp/been-here; exit 1"
    up(make_stack, write_stack({"shop": {"image": IMAGE, "restart": "on-failure", "command": ["sh", "-c", twice]}}))


def test_the_network_of_the_machine_is_refused(make_stack, write_stack):
    """It would go around every link."""
    with pytest.raises(SpecError, match="network_mode host would bypass"):
        up(make_stack, write_stack({"shop": {"image": IMAGE, "network_mode": "host"}}))


def test_a_run_that_was_shot_is_swept_by_its_id_alone(make_stack, write_stack, engine):
    """What the undo journal runs: no files, no memory, just the label; a second sweep finds nothing to do."""
    stack = make_stack(write_stack({"shop": {"image": IMAGE, "command": ["sleep", "60"]}}))
    stack.up(Deadline.after(60), lambda _: None)
    run_id = stack.topology.project.rpartition("-")[2]
    assert Containers(engine, run_id).left() != []
    for _ in range(2):
        assert process.run(sweep.command(run_id), timeout_s=60).returncode == 0
        assert Containers(engine, run_id).left() == []


def test_what_is_missing_is_told_before_anything_starts(write_stack, engine):
    """For `--runtime auto`: ready with all images, and not with one that no registry has."""
    assert ready(write_stack({"shop": {"image": IMAGE}})).ready
    found = ready(write_stack({"shop": {"image": "nobody.invalid/has/this:1"}}))
    assert not found.ready
    assert "nobody.invalid/has/this:1 is missing, and no registry" in found.why


def test_what_is_built_from_images_that_are_here_can_be_had(write_stack, engine, tmp_path):
    """Known bad: without a registry it could not be run, though everything to build it from was on the machine."""
    build = {"shop": {"build": "."}, "till": {"build": {"context": ".", "dockerfile_inline": "FROM nobody.invalid/till:1\n"}}}
    (tmp_path / "Dockerfile").write_text(f"FROM --platform=linux/amd64 {IMAGE} AS oven\nFROM oven\nFROM scratch\n")
    assert ready(write_stack({"shop": build["shop"]})).ready
    found = ready(write_stack(build))
    assert "but weather-till (built from nobody.invalid/till:1) is missing, and no registry" in found.why
    assert (found.ready, found.cure) == (
        False,
        "get nobody.invalid/till:1: docker pull, docker load, or docker login to its registry",
    )


@pytest.mark.parametrize(
    ("text", "bases"),
    [
        ("FROM a:1\nFROM --platform=$BUILDPLATFORM b AS build\nfrom build as last\nFROM LAST\n", {"a:1", "b"}),
        ("ARG V=1\nFROM python:${V}\n# FROM c\nFROM scratch\n", set()),
    ],
)
def test_what_a_dockerfile_begins_with(text, bases, tmp_path):
    """But for stages and what only the build knows; a Dockerfile elsewhere is left to the build, too."""
    (tmp_path / "Other").write_text(text)
    assert bases_of({"context": str(tmp_path), "dockerfile": "Other"}) == bases
    assert bases_of({"context": str(tmp_path), "dockerfile_inline": text}) == bases
    assert bases_of({"context": "https://example.test/repository.git"}) == set()


def test_what_a_registry_offers_can_be_had(write_stack, engine, registry):
    """Known bad: the same registry asked for what it does not have."""
    found = ready(write_stack({"shop": {"image": f"{registry}/bakery:1"}}))
    assert (found.ready, f"must be built or pulled first: {registry}/bakery:1" in found.why) == (True, True), found.why
    assert not ready(write_stack({"shop": {"image": f"{registry}/butcher:1"}})).ready


def test_taken_down_while_starting(make_stack, write_stack):
    """A signal during the boot: `down` ends what starts, and `up` says why."""
    stack = make_stack(write_stack({"shop": {"image": IMAGE, "command": ["sleep", "60"]}}))
    timer = threading.Timer(1.0, stack.down)
    timer.start()
    with pytest.raises((StackError, EnvironmentFault)):
        stack.up(Deadline.after(60), lambda _: None)
    timer.join()
