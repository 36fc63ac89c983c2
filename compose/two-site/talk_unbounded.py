"""talk with a defect: each reader whose page is not in the cache asks the database for it, however many there are.

While the cache is warm that does no harm. When it is empty, or more readers come, the database is asked for more pages than it
can build in time; what comes late is thrown away, so the cache stays empty and nobody is served until readers go away.

Not part of the stack; an overlay replaces talk with it, to prove that a survivor without limits is detected.
"""

from __future__ import annotations

from aiohttp import web

from talk_cached import Builder, Cache, page_key, talk_cached
from web_service import serve


class UnboundedPages:
    """Pages from the cache, or else built at once."""

    def __init__(self, cache: Cache, builder: Builder) -> None:
        self._cache, self._builder = cache, builder

    async def page(self, reader: str, limit: int) -> bytes:
        key = page_key(reader, limit)
        kept = await self._cache.get(key)
        if kept is not None and kept.is_fresh:
            return kept.page
        page = await self._builder.build(limit)
        await self._cache.put(key, page)
        return page


def talk_unbounded() -> web.Application:
    return talk_cached(UnboundedPages)


if __name__ == "__main__":
    serve(talk_unbounded)
