"""Everyday load, in which each request for messages is for the page of one of 150 readers. For compose/two-site/cache.yaml.

32 users make about 100 requests a second, 30 of them for messages.
"""

from __future__ import annotations

import everyday  # a module of this folder, which Locust puts on the path
from locust import task

READERS = 150


class Reader(everyday.Citizen):
    """A cache has most pages: each is read every five seconds."""

    @task(6)
    def read_messages(self) -> None:
        self.client.get(f"/talk/messages?limit=20&reader=reader-{self.random.randrange(READERS)}", name="talk.read")
