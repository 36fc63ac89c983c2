"""Run in a container of the WAN: prints a line `source port destination port` for each SYN that arrives, once each.

A packet socket sees what the packet rules drop, so connections that hang behind a fence are seen, too.
"""

import ctypes
import socket
import struct

IPV4, ATTACH_FILTER = 0x0800, 26
# Classic BPF, from the IP header on: TCP, with SYN and without ACK.
FILTER = [
    (0xB1, 0, 0, 0),  # X = length of the IP header
    (0x30, 0, 0, 9),  # A = protocol
    (0x15, 0, 4, 6),  # TCP, else drop
    (0x50, 0, 0, 13),  # A = flags
    (0x54, 0, 0, 0x12),  # of these SYN and ACK
    (0x15, 0, 1, 0x02),  # SYN alone, else drop
    (0x06, 0, 0, 128),
    (0x06, 0, 0, 0),
]
REMEMBERED_MAX = 10_000


def main() -> None:
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in FILTER))
    listening = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(IPV4))
    listening.setsockopt(socket.SOL_SOCKET, ATTACH_FILTER, struct.pack("HL", len(FILTER), ctypes.addressof(program)))
    seen: set[str] = set()
    while True:
        packet = listening.recv(128)
        header = 4 * (packet[0] & 0xF)
        source, target = socket.inet_ntoa(packet[12:16]), socket.inet_ntoa(packet[16:20])
        from_port, to_port = struct.unpack_from("!HH", packet, header)
        line = f"{source} {from_port} {target} {to_port}"
        if line not in seen:  # a SYN without an answer is sent again and again
            if len(seen) >= REMEMBERED_MAX:
                seen.clear()
            seen.add(line)
            print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
