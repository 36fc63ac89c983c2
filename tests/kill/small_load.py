"""A few users of the mini stack: enough for Locust to be at work."""

from locust import task

from chaoslab.locust_rows import DeadlineUser


class Reader(DeadlineUser):
    """Asks where it is, five times a second."""

    period_s = 0.2
    deadline_s = 1.0

    @task
    def where(self) -> None:
        self.client.request("GET", "/where", name="where")
