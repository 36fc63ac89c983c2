"""The name from which locustfiles import `DeadlineUser`, kept so that they continue to work: `chaoslab.load.locust_plugin`."""

from chaoslab.load.locust_plugin import DeadlineUser

__all__ = ["DeadlineUser"]
