"""Start guests' kernels and kill somebody, over and over: is anything left of them?

    .venv/bin/python -m tests.vm.kills [--rounds 50] [--seed 1]

Each round starts a Jupyter kernel in a guest from a process of its own (the server's part), and a
moment later kills with SIGKILL, in turn, QEMU, the client that talks to the kernel, the server, or
nobody, and shuts down. Then no QEMU, no folder and no port of it may be left.
"""

import argparse
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from tqdm import tqdm

from helpers import kernel
from helpers.vm import fetch
from tests.vm.conftest import until

SERVER = """
import sys
from jupyter_client.manager import KernelManager
from helpers.vm import kernelspec
kernelspec.offer()
manager = KernelManager(kernel_name="linux-6.1", connection_file=sys.argv[1])
manager.start_kernel()
print("up", flush=True)
sys.stdin.read()
manager.shutdown_kernel(now=True)
"""
CLIENT = """
import sys
from jupyter_client import BlockingKernelClient
client = BlockingKernelClient(connection_file=sys.argv[1])
client.load_connection_file()
client.start_channels()
client.execute("import time; time.sleep(1000)")
print("up", flush=True)
sys.stdin.read()
"""
VICTIMS = ["qemu", "client", "qemu", "server", "nobody", "qemu", "nobody", "client", "server"]


def _python(code: str, *args: str) -> "subprocess.Popen[str]":
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-c", code, *args], stdin=pipe, stdout=pipe, stderr=pipe, text=True
    )


def below(pid: int) -> dict[int, str]:
    """The processes that this one started, directly or not, with the names of their programs."""
    found = dict[int, str]()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            name = os.path.basename(os.readlink(path / "exe"))
        except OSError:
            continue
        if parent == pid:
            found |= {int(path.name): name, **below(int(path.name))}
    return found


def one(victim: str, delay: float, scratch: Path) -> list[str]:
    """One round; what is left after it, in words."""
    scratch.mkdir()
    connection = scratch / "connection.json"
    server = _python(SERVER, str(connection))
    until(lambda: any("qemu" in name for name in below(server.pid).values()), 60)
    ours = below(server.pid)
    [qemu] = [pid for pid, name in ours.items() if "qemu" in name]
    client = _python(CLIENT, str(connection))
    time.sleep(delay)
    doomed = {"qemu": qemu, "client": client.pid, "server": server.pid}.get(victim)
    if doomed:
        os.kill(doomed, signal.SIGKILL)
    for process in (client, server):
        process.communicate()  # closes its standard input, which ends it
    guests = kernel.cache_dir("vm", "guests")
    ports = _ports(connection)

    def left() -> list[str]:
        folders = [path.name for path in guests.glob(f"{server.pid}-*")]
        alive = [f"{ours[pid]} {pid}" for pid in ours if Path(f"/proc/{pid}").exists()]
        return folders + alive + [f"port {port}" for port in ports if _taken(port)]

    deadline = time.monotonic() + 10
    while left() and time.monotonic() < deadline:
        time.sleep(0.05)
    return left()


def _ports(connection: Path) -> list[int]:
    try:
        told = json.loads(connection.read_text())
    except FileNotFoundError:
        return []
    return [value for name, value in told.items() if name.endswith("_port")]


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def run(rounds: int, seed: int, scratch: Path) -> list[str]:
    """Several rounds; what was left after which."""
    dice, wrong = random.Random(seed), list[str]()
    for number in tqdm(range(rounds), desc="kills", disable=None):
        victim = VICTIMS[number % len(VICTIMS)]
        delay = dice.uniform(0, 12)
        left = one(victim, delay, scratch / str(number))
        wrong += [f"round {number}, {victim} killed after {delay:.1f} s: {what}" for what in left]
    return wrong


def main() -> int:
    """Say what was left, and exit with 1 if anything was."""
    parser = argparse.ArgumentParser(prog="kills", description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    fetch.get("6.1")
    with TemporaryDirectory() as scratch:
        wrong = run(args.rounds, args.seed, Path(scratch))
    print("\n".join(wrong) or f"{args.rounds} rounds, and nothing was left")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
