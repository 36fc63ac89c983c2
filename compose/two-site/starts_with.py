"""Start a service with what it has to fetch first: a part of overlays, not of the stack.

    python -m starts_with MODULE

SECRETS   host:port of stores of secrets, separated by commas: one of them has the password of the database
REGISTRY  host:port of registries, separated by commas: one of them has the release, from which the module is run
RELEASE   the file in which the release is put. It is fetched at each start: a new machine has none

Without SECRETS the password is that of the environment, and without REGISTRY the module is that of this folder. Until it has
all that it fetches, the service does not run.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from pathlib import Path

ANSWER_S = 2.0
PAUSE_S = 0.5


def main(module: str) -> None:
    """Fetch, then become the service."""
    os.execve(sys.executable, [sys.executable, "-m", module], fetched(os.environ))  # noqa: S606


def fetched(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of the service, with what was fetched. Waits for as long as that takes."""
    found = dict(environment)
    if "SECRETS" in environment:
        found["DATABASE_PASSWORD"] = fetch(environment["SECRETS"], "/database-password").decode()
    if "REGISTRY" in environment:
        release = Path(environment["RELEASE"])
        release.write_bytes(fetch(environment["REGISTRY"], "/release"))
        found |= {"PYTHONPATH": str(release), "PYTHONSAFEPATH": "1"}  # safe: not from this folder
    return found


def fetch(addresses: str, path: str) -> bytes:
    """What the first of these replicas that has it answers; they are asked one after the other until one does."""
    told = False
    while True:
        for address in addresses.split(","):
            host, _, port = address.rpartition(":")
            connection = HTTPConnection(host, int(port), timeout=ANSWER_S)
            try:
                connection.request("GET", path)
                answer = connection.getresponse()
                if answer.status == 200:
                    return answer.read()
            except (OSError, HTTPException):
                continue
            finally:
                connection.close()
        if not told:
            sys.stderr.write(f"it does not start before one of {addresses} answers {path}\n")
            told = True
        time.sleep(PAUSE_S)


if __name__ == "__main__":
    main(sys.argv[1])
