"""Health check: `health.py host:port/path...` passes when each URL answers 200, or with `--or FILE` when that file exists.

Run as `python -I -S health.py`: only sockets are imported, because it runs every other second for every replica.
"""

import os
import socket
import sys

TIMEOUT_S = 2.0


def status(url: str) -> int:
    """The HTTP status of `host:port/path`; 0 if the answer is not HTTP. Raises OSError if there is no answer."""
    authority, _, path = url.partition("/")
    host, _, port = authority.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=TIMEOUT_S) as connection:
        connection.sendall(f"GET /{path} HTTP/1.0\r\nHost: {authority}\r\n\r\n".encode())
        words = connection.recv(64).split()
    return int(words[1]) if len(words) > 1 and words[0].startswith(b"HTTP/") else 0


def problem(url: str) -> str | None:
    """What is wrong with a URL's answer, as text; None if it is 200."""
    try:
        seen = status(url)
    except OSError as failed:
        return f"{url}: {failed}"
    return None if seen == 200 else f"{url}: status {seen}"


def main(arguments: list[str]) -> int:
    if "--or" in arguments:
        mark = arguments.index("--or")
        if os.path.exists(arguments[mark + 1]):  # noqa: PTH110 - pathlib costs as much as all the rest
            return 0
        arguments = arguments[:mark]
    problems = [found for found in map(problem, arguments) if found]
    sys.stderr.write("".join(f"{found}\n" for found in problems[:1]))
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
