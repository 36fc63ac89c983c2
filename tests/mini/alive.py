"""Exit 0 when something listens at an address."""

import socket
import sys

host, _, port = sys.argv[1].rpartition(":")
socket.create_connection((host, int(port)), timeout=1).close()
