"""The runtime that uses containers: Docker Compose and its engine."""
