"""Everyday load, in which each request for messages is for a page that nobody has read before. For compose/two-site/cache.yaml.

12 users make about 40 requests a second, 12 of them for messages; no cache helps with those.
"""

from __future__ import annotations

import everyday  # a module of this folder, which Locust puts on the path
from locust import task


class Visitor(everyday.Citizen):
    """Someone who has not been here for long. Each page is one of its own."""

    @task(6)
    def read_messages(self) -> None:
        reader = f"{self.writer}-{self.random.getrandbits(64):x}"
        self.client.get(f"/talk/messages?limit=20&reader={reader}", name="talk.browse")
