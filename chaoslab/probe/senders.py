"""The sender of a target, by its protocol."""

from __future__ import annotations

from chaoslab.clock import Clock
from chaoslab.probe.client_sender import ClientSender
from chaoslab.probe.endpoint import Endpoint
from chaoslab.probe.http_sender import HttpSender
from chaoslab.probe.plan import Http, Redis, Sql, Target, Tcp
from chaoslab.probe.python_sender import OnBlocked, PythonSender
from chaoslab.probe.redis import RedisClient
from chaoslab.probe.sender import Sender
from chaoslab.probe.sql import SqlClient
from chaoslab.probe.tcp_sender import TcpSender


def sender_of(target: Target, endpoint: Endpoint, writer: str, on_blocked: OnBlocked, clock: Clock) -> Sender:
    """Raises SpecError when the target cannot be sent at all. Needs a running event loop."""
    how = target.how
    match how:
        case Http():
            return HttpSender(target, how, endpoint, writer, clock)
        case Tcp():
            return TcpSender(target, how, endpoint, writer, clock)
        case Redis():
            return ClientSender(target, RedisClient(how, endpoint, clock), writer)
        case Sql():
            return ClientSender(target, SqlClient(how, endpoint, clock), writer)
    return PythonSender(target, how, endpoint, writer, on_blocked, clock)
