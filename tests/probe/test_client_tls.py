"""The same exchanges through TLS, with the certificate checked."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from chaoslab.clock import SYSTEM
from chaoslab.probe.client import Client
from chaoslab.probe.endpoint import Endpoint

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
BIG = 300_000
OPENSSL = shutil.which("openssl")
pytestmark = pytest.mark.skipif(OPENSSL is None, reason="needs openssl, to make a certificate")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    key, made, both = folder / "key.pem", folder / "made.pem", folder / "both.pem"
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([OPENSSL, "req", *kind, *subject, "-keyout", key, "-out", made], check=True, capture_output=True)
    both.write_text(key.read_text() + made.read_text())
    return both


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.readline():
        while (await reader.readline()).strip():
            pass
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BIG + b"x" * BIG)


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def client_to(certificate: Path, host: str, serve: Serve = serve) -> AsyncIterator[Client]:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    client = Client(Endpoint.parse(f"https://{host}:{server.sockets[0].getsockname()[1]}/"), SYSTEM)
    try:
        yield client
    finally:
        client.close()
        server.close()


async def test_answers_of_many_records_come_whole_over_fresh_and_reused_connections(certificate, monkeypatch):
    """What TLS has decrypted ahead never makes the socket readable again; none of it may be left behind."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with client_to(certificate, "localhost") as client:
        answers = [await client.exchange(GET, timeout_s=5, fresh=fresh) for fresh in (True, False, False)]
    assert [(answer.status, len(answer.body), answer.error) for answer in answers] == [(200, BIG, None)] * 3
    assert [answer.pooled for answer in answers] == [False, False, True]


@pytest.mark.parametrize(("host", "trusted"), [("localhost", False), ("127.0.0.1", True)])
async def test_a_certificate_that_proves_nothing_is_no_connection(certificate, monkeypatch, host, trusted):
    """Unknown, or made out to another name: not a byte of the request is sent."""
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with client_to(certificate, host) as client:
        answer = await client.exchange(GET, timeout_s=5, fresh=True)
    assert not answer.sent
    assert "certificate verify failed" in answer.error


async def test_an_answer_without_a_length_that_is_cut_is_not_whole(certificate, monkeypatch):
    """Known bad: the peer is gone without TLS's close notification, so there may have been more."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))

    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nhello")
        await writer.drain()
        writer.transport.abort()

    async with client_to(certificate, "localhost", cut) as client:
        answer = await client.exchange(GET, timeout_s=5, fresh=True)
    assert (answer.status, answer.sent) == (None, True)
