"""partner: a third party that uses our login, and checks it on every request. It stores no sessions."""

from __future__ import annotations

from aiohttp import web

from login import Login, token_of
from web_service import application, json_answer, serve


def partner() -> web.Application:
    """The service as an application. Needs AUTH_URL."""
    login = Login(watched=True)

    async def visitor(request: web.Request) -> None:
        if not await login.has_session(token_of(request)):
            raise web.HTTPUnauthorized(text='{"error": "this session is not known"}', content_type="application/json")

    async def sign_in(request: web.Request) -> web.Response:
        await visitor(request)
        return json_answer(b'{"signed_in": true}', 201)

    async def page(request: web.Request) -> web.Response:
        await visitor(request)
        return json_answer(b'{"page": "welcome"}')

    routes = [web.post("/partner/signins", sign_in), web.get("/partner/page", page)]
    return application("partner", lambda _: login.up, routes, [login])


if __name__ == "__main__":
    serve(partner)
