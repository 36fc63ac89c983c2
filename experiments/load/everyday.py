"""Everyday load for the two-site stack: users read, write, pay, and sign in at a partner.

40 users make about 125 requests a second.
"""

from __future__ import annotations

from locust import task

from chaoslab.locust_rows import DeadlineUser


class Citizen(DeadlineUser):
    """Someone with the app open. Writes are POSTs with ids of the client, which no client library sends twice."""

    deadline_s = 2.0
    period_s = 0.32
    default_headers = {"Authorization": "Bearer demo"}  # noqa: RUF012  Locust's own shape

    @task(6)
    def read_messages(self) -> None:
        self.client.get("/talk/messages?limit=20", name="talk.read")

    @task(4)
    def send_message(self) -> None:
        self.client.post("/talk/messages", json=self.entry(), name="talk.send")

    @task(2)
    def transfer(self) -> None:
        self.client.post("/pay/entries", json=self.entry(), name="pay.transfer")

    @task(2)
    def look_at_balance(self) -> None:
        self.client.get("/pay/balance", name="pay.balance")

    @task(1)
    def log_in(self) -> None:
        self.client.post("/auth/sessions", json=self.entry(), name="auth.login")

    @task(2)
    def check_session(self) -> None:
        self.client.get("/auth/sessions/demo", name="auth.check")

    @task(1)
    def sign_in_at_partner(self) -> None:
        self.client.post("/partner/signins", json=self.entry(), name="partner.signin")

    @task(2)
    def open_partner_page(self) -> None:
        self.client.get("/partner/page", name="partner.page")
