"""Experiments as tests of pytest."""
