"""Load for the shop of compose/queue: customers order, and look at the latest orders. 10 users: about 20 requests a second."""

from __future__ import annotations

from locust import task

from chaoslab.locust_rows import DeadlineUser


class Customer(DeadlineUser):
    """Orders are POSTs with ids of the client, which no client library sends twice."""

    deadline_s = 2.0
    period_s = 0.5

    @task(2)
    def order(self) -> None:
        self.client.post("/orders", json=self.entry(), name="shop.order")

    @task(1)
    def look(self) -> None:
        self.client.get("/orders", name="shop.latest")
