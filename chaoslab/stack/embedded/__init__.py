"""The runtime that uses processes on this machine, without Docker."""
