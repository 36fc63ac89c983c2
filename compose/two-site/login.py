"""How the other services ask auth, in their own site, whether a user is logged in."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time

from aiohttp import ClientError, ClientSession, ClientTimeout, web
from yarl import URL

from connections import NotExecuted

REQUEST_TIMEOUT_S = 0.5
ATTEMPTS = 3  # the check is a read, and the database node that auth asked may have been lost in the middle of it
WATCH_S = 0.5
FRESH_S = 60.0
KNOWN_MAX = 10_000


class Login:
    """A client of auth at AUTH_URL. `up`: whether it was ready when last looked at (only with `watched`)."""

    def __init__(self, *, watched: bool = False) -> None:
        self._base = URL(os.environ["AUTH_URL"])
        self._watched = watched
        self._watch: asyncio.Task[None] | None = None
        self._session: ClientSession | None = None
        self.up = False

    def start(self) -> None:
        self._session = ClientSession(timeout=ClientTimeout(total=REQUEST_TIMEOUT_S))
        if self._watched:
            self._watch = asyncio.create_task(self._keep_watching())

    async def stop(self) -> None:
        if self._watch:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch
        if self._session:
            await self._session.close()

    async def has_session(self, token: str) -> bool:
        """Whether there is such a session. Raises NotExecuted if auth gives no answer."""
        why = NotExecuted("auth was not asked")
        for _ in range(ATTEMPTS):
            try:
                status = await self._get(self._base / "auth" / "sessions" / token)
            except NotExecuted as failed:
                why = failed
                continue
            if status in (200, 404):
                return status == 200
            why = NotExecuted(f"auth answered {status}")
        raise why

    async def _get(self, url: URL) -> int:
        if self._session is None:
            raise NotExecuted("not started")
        try:
            async with self._session.get(url) as response:
                return response.status
        except (ClientError, TimeoutError, OSError) as failed:
            raise NotExecuted(f"auth does not answer: {failed!r}") from failed

    async def _keep_watching(self) -> None:
        ready = (self._base / "ready").with_query({"for": "read"})
        failed = 0
        while True:
            try:
                failed = 0 if await self._get(ready) == 200 else failed + 1
            except NotExecuted:
                failed += 1
            self.up = failed == 0 or (self.up and failed < 2)  # a single failed check may be a hiccup
            await asyncio.sleep(WATCH_S)


def token_of(request: web.Request) -> str:
    """The bearer token of a request. Raises HTTPUnauthorized."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme != "Bearer" or not token:
        raise web.HTTPUnauthorized(text='{"error": "a bearer token is needed"}', content_type="application/json")
    return token


class KnownVisitors:
    """Visitors that auth has confirmed before. They are admitted while auth is down; unknown visitors are not."""

    def __init__(self, login: Login) -> None:
        self._login = login
        self._confirmed_at: dict[str, float] = {}
        self._checks: dict[str, asyncio.Task[None]] = {}

    async def admit(self, request: web.Request) -> None:
        """Raises HTTPUnauthorized for an unknown visitor, NotExecuted if auth cannot be asked."""
        token = token_of(request)
        confirmed_at = self._confirmed_at.get(token)
        if confirmed_at is not None and time.monotonic() - confirmed_at < FRESH_S:
            return
        check = self._checks.get(token) or self._start_check(token)
        if confirmed_at is not None:
            return  # the cached answer is good enough until auth gives a new one
        await asyncio.shield(check)
        if token not in self._confirmed_at:
            raise web.HTTPUnauthorized(text='{"error": "this session is not known"}', content_type="application/json")

    def _start_check(self, token: str) -> asyncio.Task[None]:
        task = asyncio.create_task(self._check(token))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._checks[token] = task
        return task

    async def _check(self, token: str) -> None:
        try:
            if await self._login.has_session(token):
                if len(self._confirmed_at) >= KNOWN_MAX:
                    self._confirmed_at.clear()
                self._confirmed_at[token] = time.monotonic()
            else:
                self._confirmed_at.pop(token, None)
        finally:
            del self._checks[token]
