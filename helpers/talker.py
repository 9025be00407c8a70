"""The program that ``sandbox.workload`` runs: an echo server, or a client that talks to one.

It runs in a process and a network namespace of its own, with the standard library alone. Its one
argument is a plan in JSON; what it says is one JSON object a line.
"""

import ctypes
import json
import os
import selectors
import signal
import socket
import sys
import time
from typing import Any

PR_SET_PDEATHSIG = 1  # linux/prctl.h
PIECE = {"tcp": 16384, "udp": 1400}  # bytes sent before their echo is read, so no buffer fills up
SOCKET = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


def main(plan: dict[str, Any]) -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != plan["parent"]:  # it died before the line above
        return
    try:
        serve(plan) if plan["role"] == "server" else talk(plan)
    except OSError as error:
        say(role=plan["role"], error=str(error), late=isinstance(error, TimeoutError))


def say(**words: object) -> None:
    print(json.dumps(words), flush=True)


def serve(plan: dict[str, Any]) -> None:
    """Send back whatever arrives, on any number of connections, for ever."""
    ready = selectors.DefaultSelector()
    listener = socket.socket(socket.AF_INET, SOCKET[plan["kind"]])
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((plan["server"], plan["port"]))
    if plan["kind"] == "tcp":
        listener.listen(plan["connections"])
    ready.register(listener, selectors.EVENT_READ)
    say(ports=[plan["port"]])
    while True:
        for key, _ in ready.select():
            heard = key.fileobj
            assert isinstance(heard, socket.socket)
            if plan["kind"] == "udp":
                data, sender = heard.recvfrom(65536)
                heard.sendto(data, sender)
            elif heard is listener:
                ready.register(listener.accept()[0], selectors.EVENT_READ)
            elif data := heard.recv(65536):
                heard.sendall(data)
            else:
                ready.unregister(heard)
                heard.close()


def talk(plan: dict[str, Any]) -> None:
    """Wait for the word, connect, say from which ports, then send and read the echo."""
    if not sys.stdin.readline():
        return
    sockets = []
    for _ in range(plan["connections"]):
        sockets.append(socket.socket(socket.AF_INET, SOCKET[plan["kind"]]))
        sockets[-1].settimeout(plan["patience"])
        sockets[-1].connect((plan["server"], plan["port"]))
    say(ports=[each.getsockname()[1] for each in sockets])
    done = 0
    while plan["rounds"] is None or done < plan["rounds"]:
        for each in sockets:
            exchange(each, plan["payload"], PIECE[plan["kind"]])
        time.sleep(plan["pause"])
        done += 1
    for each in sockets:
        each.close()
    say(ports=[])


def exchange(each: socket.socket, left: int, piece: int) -> None:
    while left:
        echo = size = min(left, piece)
        each.sendall(bytes(size))
        while echo:
            heard = each.recv(echo)
            if not heard:
                raise ConnectionError("the server closed the connection")
            echo -= len(heard)
        left -= size


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
