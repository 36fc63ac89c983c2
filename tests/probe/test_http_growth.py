"""What a journey of HTTP can say beyond one request: forms, several good statuses, what comes before it, entries with TLS."""

from __future__ import annotations

import asyncio
import json
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from chaoslab.clock import SYSTEM
from chaoslab.errors import SpecError
from chaoslab.probe.assessment import Assessment
from chaoslab.probe.endpoint import Endpoint
from chaoslab.probe.plan import EntryTarget, Http, HttpCall, Prelude, Target, entry_target, plan_for, target_of
from chaoslab.probe.senders import sender_of
from chaoslab.spec.model import Experiment
from chaoslab.spec.stackfile.journey import Journey
from chaoslab.spec.stackfile.model import StackSpec

LOGIN = HttpCall(method="POST", path="/login", form={"user": "demo", "password": "for tests & more"})
BEFORE = Prelude(call=LOGIN, statuses=(200,), keep={"token": "session.token"})
READ = HttpCall(path="/mine", headers={"Authorization": "Bearer {token}"})


class Shop(BaseHTTPRequestHandler):
    """Gives out a token and a cookie, each good for `lasts` requests, and answers 401 without them."""

    protocol_version = "HTTP/1.1"
    logins: list[dict[str, list[str]]]
    login_status = 200
    lasts = 1000
    left = 0

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if self.path != "/login":
            self.answer(202, {"type": self.headers["Content-Type"], "body": body})
            return
        self.logins.append(parse_qs(body))
        type(self).left = self.lasts
        cookies = [f"sid=s{len(self.logins)}; Path=/; HttpOnly", "theme=dark; Max-Age=60"]
        self.answer(self.login_status, {"session": {"token": f"t{len(self.logins)}"}}, cookies)

    def do_GET(self) -> None:
        number = len(self.logins)
        known = (f"Bearer t{number}", f"sid=s{number}; theme=dark")
        type(self).left -= 1
        is_in = (self.headers["Authorization"], self.headers["Cookie"]) == known and self.left >= 0
        self.answer(200 if is_in else 401, {})

    def answer(self, status: int, content: object, cookies: list[str] = []) -> None:  # noqa: B006 - never changed
        body = json.dumps(content).encode()
        self.send_response(status)
        for cookie in cookies:
            self.send_header("Set-Cookie", cookie)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def shop() -> Iterator[tuple[str, type[Shop]]]:
    class Own(Shop): ...

    Own.logins = []

    class Server(ThreadingHTTPServer):
        request_queue_size = 64

        def handle_error(self, *_: object) -> None: ...  # a prober resets what was answered

    with Server(("127.0.0.1", 0), Own) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", Own
        server.shutdown()
        thread.join()


async def slots(entry: EntryTarget, how: Http, count: int, *, apart_s: float = 0.0, **changes) -> list[Assessment]:
    target = Target(**{"name": "j", "service": "s", "op": "read", "how": how, "timeout_s": 1.0} | changes)
    sender, found = sender_of(target, Endpoint.of(entry), "w.j", lambda *_: None, SYSTEM), []
    try:
        for slot in range(count):
            due_ns = SYSTEM.now_ns()
            found.append(sender.assess(await sender.send(slot, fresh=slot % 2 == 0, left_s=1.0), due_ns))
            await asyncio.sleep(apart_s)
    finally:
        sender.close()
    return found


async def test_a_form_is_sent_as_one(shop):
    """Its values encoded, ids filled in; and one of several statuses is good."""
    url, _ = shop
    how = Http(call=HttpCall(method="POST", path="/orders", form={"id": "{id}", "note": "a&b=é"}), statuses=(201, 202))
    expect = "type == 'application/x-www-form-urlencoded' && body == 'id=w.j-0&note=a%26b%3D%C3%A9'"
    assert await slots(EntryTarget(url=url), how, 1, op="write", expect=expect) == [Assessment(True, "acked", None)]
    one = Http(call=how.call, statuses=(201,))
    assert [said.error for said in await slots(EntryTarget(url=url), one, 1, op="write")] == ["status 202"]


async def test_a_login_comes_first_and_once(shop):
    """Its token and its cookies are in every request after it."""
    url, server = shop
    assert await slots(EntryTarget(url=url), Http(call=READ, before=BEFORE), 6) == [Assessment(True, "ok", None)] * 6
    assert server.logins == [{"user": ["demo"], "password": ["for tests & more"]}]


async def test_slots_at_the_same_time_share_a_login(shop):
    url, server = shop
    target = Target(name="j", service="s", op="read", how=Http(call=READ, before=BEFORE))
    sender = sender_of(target, Endpoint.parse(url), "w.j", lambda *_: None, SYSTEM)
    found = await asyncio.gather(*(sender.send(slot, fresh=True, left_s=1.0) for slot in range(8)))
    sender.close()
    assert [exchange.status for exchange in found] == [200] * 8
    assert len(server.logins) == 1


async def test_a_login_that_has_run_out_is_made_again(shop):
    """The slot that shows it is bad, as it is for a user; the next one logs in."""
    url, server = shop
    server.lasts = 3
    said = await slots(EntryTarget(url=url), Http(call=READ, before=BEFORE), 6, apart_s=0.25)
    assert [one.error for one in said] == [None, None, None, "status 401", None, None]
    assert len(server.logins) == 2


async def test_a_login_is_made_anew_before_it_runs_out(shop):
    """`every`: while it is being made, slots use what was kept before, which this server refuses at once."""
    url, server = shop
    renewed = Prelude(call=LOGIN, statuses=(200,), keep=BEFORE.keep, every_s=0.3)
    await slots(EntryTarget(url=url), Http(call=READ, before=renewed), 8, apart_s=0.1)
    assert 2 <= len(server.logins) <= 4


async def test_a_login_that_is_refused_is_said_and_proves_that_nothing_was_sent(shop):
    """Known bad: the slots are bad with that reason; writes are rejected; logins do not come with every slot."""
    url, server = shop
    server.login_status = 503
    said = await slots(EntryTarget(url=url), Http(call=READ, before=BEFORE), 10, op="write", apart_s=0.01)
    assert set(said) == {Assessment(False, "rejected", "before: status 503")}
    assert len(server.logins) <= 2


async def test_a_login_without_its_token_is_said(shop):
    url, _ = shop
    lacking = Prelude(call=LOGIN, statuses=(200,), keep={"token": "session.key"})
    said = await slots(EntryTarget(url=url), Http(call=READ, before=lacking), 1)
    assert said == [Assessment(False, "bad", "before: the answer has nothing to keep as token")]


def test_a_get_that_writes_says_so():
    journey = Journey(service="s", request={"path": "/add?id={id}"}, writes=True)
    assert (journey.op, target_of("j", journey).op) == ("write", "write")
    assert Journey(service="s", request={"method": "POST", "path": "/search"}, writes=False).op == "read"


def test_each_journey_goes_through_its_entry(tmp_path):
    """The main one may be one of the named ones; a certificate has to name the replica, unless something else is set."""
    stack = StackSpec(
        sites=["a"],
        entry="web",
        entries={"web": {"address": "front:8443", "tls": True}, "api": "api-front:8080",
                 "shop": {"address": "front:9443", "tls": {"ca": tmp_path / "ca.pem", "server_name": "shop.test"}}},
        journeys={name: {"service": "s", "request": {"path": "/"}, "entry": entry}
                  for name, entry in (("main", None), ("api", "api"), ("shop", "shop"))},
    )  # fmt: skip
    experiment = Experiment(name="x", hypothesis="x", title="X", stack=["c.yaml"], timeline=[], probe={"rate": 20})
    plan = plan_for(stack, experiment, lambda replica, port: f"{replica}.local:{port}", Path("h"), "w")
    assert plan.base_url == "https://front.local:8443"
    assert [target.entry for target in plan.targets] == [
        EntryTarget(url="https://front.local:8443", server_name="front"),
        EntryTarget(url="http://api-front.local:8080"),
        EntryTarget(url="https://front.local:9443", ca=str(tmp_path / "ca.pem"), server_name="shop.test"),
    ]
    assert entry_target(stack, None, lambda *_: "x:1").url == "https://x:1"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl, to make a certificate")
async def test_an_entry_with_a_certificate_of_its_own(tmp_path):
    """Trusted by its CA, and only under its own name; a CA that is not there is an error of the spec."""
    key, made = tmp_path / "key.pem", tmp_path / "made.pem"
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    subject = ["-subj", "/CN=shop.test", "-addext", "subjectAltName=DNS:shop.test"]
    command = ["openssl", "req", *kind, *subject, "-keyout", str(key), "-out", str(made)]
    subprocess.run(command, check=True, capture_output=True)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (await reader.readline()).strip():
            pass
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made, key)
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    how = Http(call=HttpCall(path="/"))
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    [good] = await slots(EntryTarget(url=url, ca=str(made), server_name="shop.test"), how, 1)
    [other_name] = await slots(EntryTarget(url=url, ca=str(made), server_name="other.test"), how, 1)
    [unknown] = await slots(EntryTarget(url=url, server_name="shop.test"), how, 1)
    server.close()
    assert good.good
    assert "not valid for 'other.test'" in other_name.error and other_name.outcome == "bad"
    assert "certificate verify failed" in unknown.error
    with pytest.raises(SpecError, match="tls: ca"):
        await slots(EntryTarget(url=url, ca=str(tmp_path / "none.pem")), how, 1)
