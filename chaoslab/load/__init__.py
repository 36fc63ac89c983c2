"""Locust in separate processes, and the rows that they write."""
