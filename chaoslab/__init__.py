"""Rehearse the loss of a whole data centre on one laptop, and prove what came back."""

__version__ = "0.1.0"
