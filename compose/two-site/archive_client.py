"""PostgreSQL's archive_command and restore_command: send a WAL file to the archive, or fetch one.

    archive_client.py push HOST:PORT NAME PATH
    archive_client.py fetch HOST:PORT NAME PATH

Run as `python -I -S archive_client.py`: only sockets are imported, because it runs for every segment. Exit status 0: done.
1: the archive has no such file, or did not accept it. 126: no answer; PostgreSQL then stops instead of treating that as the
end of the archive.
"""

import os
import socket
import sys

TIMEOUT_S = 20.0
NO_ANSWER = 126


def ask(address: str, head: str, body: bytes = b"") -> tuple[int, bytes]:
    """The status and the body of an answer. Raises OSError."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=TIMEOUT_S) as connection:
        connection.sendall(f"{head} HTTP/1.0\r\nHost: {address}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = bytearray()
        while piece := connection.recv(1 << 16):
            answer += piece
    top, _, content = bytes(answer).partition(b"\r\n\r\n")
    lines = top.split(b"\r\n")
    words = lines[0].split()
    if len(words) < 2 or not words[0].startswith(b"HTTP/"):
        raise OSError("no answer in HTTP")
    sizes = [int(line.split(b":")[1]) for line in lines[1:] if line.lower().startswith(b"content-length:")]
    if sizes and sizes[0] != len(content):
        raise OSError(f"{len(content)} of {sizes[0]} bytes came")
    return int(words[1]), content


def main(verb: str, address: str, name: str, path: str) -> int:
    try:
        if verb == "push":
            with open(path, "rb") as file:  # noqa: PTH123 - pathlib costs as much as all the rest
                status, answer = ask(address, f"PUT /wal/{name}", file.read())
        else:
            status, answer = ask(address, f"GET /wal/{name}")
    except OSError as failed:
        sys.stderr.write(f"{verb} {name}: the archive at {address} does not answer: {failed}\n")
        return NO_ANSWER if verb == "fetch" else 1
    if status not in (200, 404 if verb == "fetch" else 200):
        sys.stderr.write(f"{verb} {name}: {status} {answer[:200].decode(errors='replace')}\n")
        return NO_ANSWER if verb == "fetch" else 1
    if status == 404:
        return 1
    if verb == "fetch":
        part = f"{path}.part"
        with open(part, "wb") as file:  # noqa: PTH123
            file.write(answer)
        os.rename(part, path)  # noqa: PTH104
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:5]))
