"""pay with a defect: it asks login before each transfer, so an outage of login stops our own payments.

Not part of the stack; an overlay replaces pay with it, to prove that an outage that spreads from login to pay is detected.
"""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Handler

from login import Login, token_of
from pay import pay
from web_service import serve


def pay_waits_for_login() -> web.Application:
    login = Login()

    @web.middleware
    async def ask_login(request: web.Request, handler: Handler) -> web.StreamResponse:
        """Raises NotExecuted if login cannot be asked, though the visitor may be known."""
        if request.method == "POST" and not await login.has_session(token_of(request)):
            raise web.HTTPUnauthorized(text='{"error": "this session is not known"}', content_type="application/json")
        return await handler(request)

    application = pay(companions=[login])
    application.middlewares.append(ask_login)
    return application


if __name__ == "__main__":
    serve(pay_waits_for_login)
