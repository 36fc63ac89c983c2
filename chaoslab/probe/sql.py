"""Statements of SQL through a driver that the user installs, imported when a journey needs it."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Final, Protocol

from chaoslab.clock import Clock
from chaoslab.errors import SpecError
from chaoslab.probe.dialer import Dialer
from chaoslab.probe.endpoint import Endpoint
from chaoslab.probe.exchange import Exchange
from chaoslab.probe.payload import Values, parameters
from chaoslab.probe.plan import Sql
from chaoslab.probe.sessions import Refused, Sessions, in_background

_CLOSE_S = 1.0
_OF_THE_CONNECTION = "08"  # SQLSTATEs by which a driver itself says that the connection broke


class SqlSession(Protocol):
    """One connection, in autocommit."""

    @property
    def closed(self) -> bool: ...

    async def run(self, statement: str, values: Values) -> list[dict[str, Any]]:
        """The rows of one statement, whose placeholders become parameters. Raises OSError or Refused."""

    def close(self, *, answered: bool) -> None: ...


Open = Callable[[ModuleType, Sql, Dialer, int], Any]


def load_driver(how: Sql) -> ModuleType:
    """Raises SpecError when the driver is not installed."""
    try:
        return importlib.import_module(how.driver)
    except ImportError as missing:
        raise SpecError(f"sql: {how.driver} is not installed: {missing}", cure=f"pip install {how.driver}") from missing


class SqlClient:
    """Statements to one database, as one user."""

    def __init__(self, how: Sql, endpoint: Endpoint, clock: Clock) -> None:
        """Raises SpecError when the driver is not installed."""
        driver = load_driver(how)
        self._statement, dialer, open_ = how.statement, Dialer(endpoint, clock), _DRIVERS[how.driver]
        self._sessions: Sessions[SqlSession] = Sessions(lambda: open_(driver, how, dialer, endpoint.port), clock)

    async def exchange(self, values: Values, *, timeout_s: float, fresh: bool) -> Exchange:
        """The plan's statement. Never raises for what the network or the server does."""
        statement = self._statement
        return await self._sessions.exchange(lambda session: session.run(statement, values), timeout_s=timeout_s, fresh=fresh)

    def close(self) -> None:
        self._sessions.close()


class _Asyncpg:
    def __init__(self, driver: ModuleType, connection: Any) -> None:
        self._driver, self._connection = driver, connection

    @classmethod
    async def open(cls, driver: ModuleType, how: Sql, dialer: Dialer, port: int) -> _Asyncpg:
        with _as_ours(driver.PostgresError, driver.InterfaceError):
            connection = await driver.connect(
                host=dialer.host,
                port=port,
                user=how.user,
                password=how.password,
                database=how.database,
                ssl=dialer.tls or False,
                timeout=None,
                statement_cache_size=0,  # a pooler between us and the server may hand the next statement to another one
            )
        return cls(driver, connection)

    @property
    def closed(self) -> bool:
        return bool(self._connection.is_closed())

    async def run(self, statement: str, values: Values) -> list[dict[str, Any]]:
        text, names = parameters(statement, values, lambda number, _: f"${number}")
        with _as_ours(self._driver.PostgresError, self._driver.InterfaceError):
            rows = await self._connection.fetch(text, *(values[name] for name in names))
        return [dict(row) for row in rows]

    def close(self, *, answered: bool) -> None:
        if answered:
            in_background(self._connection.close(timeout=_CLOSE_S))
        else:
            self._connection.terminate()


class _Psycopg:
    def __init__(self, driver: ModuleType, connection: Any) -> None:
        self._driver, self._connection = driver, connection

    @classmethod
    async def open(cls, driver: ModuleType, how: Sql, dialer: Dialer, port: int) -> _Psycopg:
        if dialer.tls is not None:
            raise ConnectionError("psycopg through an entry with tls is not supported; use driver: asyncpg")
        wanted = {"host": dialer.host, "port": port, "user": how.user, "password": how.password, "dbname": how.database}
        given = {name: value for name, value in wanted.items() if value is not None}
        with _as_ours(driver.Error):
            return cls(driver, await driver.AsyncConnection.connect(autocommit=True, prepare_threshold=None, **given))

    @property
    def closed(self) -> bool:
        return bool(self._connection.closed)

    async def run(self, statement: str, values: Values) -> list[dict[str, Any]]:
        text, _ = parameters(statement.replace("%", "%%"), values, lambda _, name: f"%({name})s")
        with _as_ours(self._driver.Error):
            cursor = await self._connection.execute(text, dict(values))
            names = [column.name for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in await cursor.fetchall()] if names else []

    def close(self, *, answered: bool) -> None:
        self._connection.pgconn.finish()


_DRIVERS: Final[Mapping[str, Open]] = {"asyncpg": _Asyncpg.open, "psycopg": _Psycopg.open}


@contextlib.contextmanager
def _as_ours(*errors: type[Exception]) -> Any:
    """A driver's errors: Refused where the server answered with an SQLSTATE, ConnectionError where it did not."""
    try:
        yield
    except OSError:
        raise
    except errors as error:
        code = getattr(error, "sqlstate", None)
        words = " ".join(str(error).split()) or type(error).__name__
        if "refused" in words.lower() and code is None:
            raise ConnectionRefusedError(words) from error
        if code is None or code.startswith(_OF_THE_CONNECTION):
            raise ConnectionError(f"{type(error).__name__}: {words}") from error
        raise Refused(code, f"{code}: {words}") from error
