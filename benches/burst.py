"""The physical limit of reading a slot: a socket that is read in bursts and thrown away.

The walsender sends message by message, and whoever waits in recv() is woken by each; the waking is paid by
the walsender. Two ways of letting bytes gather:
  nap    a small receive buffer, and a nap of a millisecond after every short read
  lowat  SO_RCVLOWAT: the kernel wakes the reader only when so much waits
Which is the better one depends on the machine and on what else it does, so the ceiling is the better of the two.
Prints {"s": seconds from the start of the process to the last byte, "bytes": n}.

    burst.py nap|lowat PORT DATABASE SLOT PUBLICATION
"""

import json
import os
import socket
import struct
import sys
import time

NAP = 0.001
WINDOW = {"nap": 256 << 10, "lowat": 4 << 20}
LOW_WATER = 128 << 10
PEEK = 0.2  # seconds after which less than the low-water mark is fetched
QUIET = 1.0  # seconds without a byte after which the backlog has ended


def read_message(stream):
    kind = stream.read(1)
    (length,) = struct.unpack(">I", stream.read(4))
    return kind, stream.read(length - 4)


def main():
    how, port, database, slot, publication = sys.argv[1:]
    began = float(os.environ["BEGAN"])
    peer = socket.socket()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WINDOW[how])
    peer.connect(("127.0.0.1", int(port)))
    start = b"".join(
        text.encode() + b"\0" for text in ("user", "postgres", "database", database, "replication", "database", "")
    )
    peer.sendall(struct.pack(">II", len(start) + 8, 3 << 16) + start)
    greeting = peer.makefile("rb")  # after the greeting the server waits for us, so nothing is read too far
    while True:
        kind, body = read_message(greeting)
        if kind == b"E":
            sys.exit(body.decode(errors="replace"))
        if kind == b"Z":
            break
    options = f"proto_version '2', streaming 'on', binary 'true', publication_names '{publication}'"
    query = f"START_REPLICATION SLOT {slot} LOGICAL 0/0 ({options})".encode() + b"\0"
    peer.sendall(b"Q" + struct.pack(">I", len(query) + 4) + query)
    if how == "lowat":
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, LOW_WATER)
    last, total = drain(peer, how == "nap")
    print(json.dumps({"s": last - began, "bytes": total}))


def drain(peer, naps):
    """Reads until nothing came for a while. Returns when the last byte came, and how many there were."""
    peer.settimeout(PEEK)
    buffer, total, last, began = bytearray(1 << 20), 0, None, time.time()
    while time.time() - (last or began + 30) < QUIET:
        try:
            count, waited = peer.recv_into(buffer), False
        except TimeoutError:
            try:
                # What is there had come before the wait, and may be less than the low-water mark.
                count, waited = peer.recv_into(buffer, 0, socket.MSG_DONTWAIT), True
            except (BlockingIOError, TimeoutError):
                continue
        if count == 0:
            sys.exit("the server closed the connection")
        if last is None and buffer[:1] == b"E":
            sys.exit(buffer[:count].decode(errors="replace"))
        total += count
        is_keepalive = count <= 23 and buffer[5:6] == b"k"
        if last is None or not (is_keepalive or waited):
            last = time.time()
        if naps and count < WINDOW["nap"]:
            time.sleep(NAP)
    if last is None:
        sys.exit("nothing came")
    return last, total


main()
