"""The environment variables with which `LoadProcess` configures the plugin in Locust's processes."""

from __future__ import annotations

from typing import Final

ROWS_FILE: Final = "CHAOSLAB_LOAD_ROWS"  # where rows go
SEED: Final = "CHAOSLAB_LOAD_SEED"
RUN: Final = "CHAOSLAB_LOAD_RUN"  # a token; with it, standard input is a pipe that closes when the harness is gone
USERS_FILE: Final = "CHAOSLAB_LOAD_USERS"  # the last line of this file is how many users there are to be
HOST: Final = "CHAOSLAB_LOAD_HOST"  # the entry as this machine reaches it, whatever address is published for others
