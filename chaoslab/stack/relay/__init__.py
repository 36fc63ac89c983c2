"""The embedded relay: the API of Toxiproxy, and blocked sites."""
