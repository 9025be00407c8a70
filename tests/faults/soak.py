"""The long form of tests/faults: ./course test --soak [--anew] [PART...]

It goes on where it was stopped, as long as the checkout is at the same commit, and ends with a
report of one page. A round in which the whole run died counts as failed. When it is stopped, the
rounds that run come to their end.
"""

import argparse
import json
import multiprocessing
import os
import platform
import signal
import subprocess
import sys
import time
import traceback
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TypedDict

from tqdm import tqdm

from helpers import kernel
from tests import plugin
from tests.faults import Part, parts


class Rounds(TypedDict):
    """What is known of a part: what failed, by the round's number, and how long all took."""

    done: list[int]
    failed: dict[str, str]
    seconds: float
    begun: list[int]


def main(line: list[str]) -> int:
    known = parts()
    parser = argparse.ArgumentParser(prog="./course test --soak", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(known))
    parser.add_argument("--anew", action="store_true", help="forget what was done before")
    args = parser.parse_args(line)
    if unknown := sorted({*args.parts} - {*known}):
        parser.error(f"no part {', '.join(unknown)}; there are {', '.join(known)}")
    chosen = {name: known[name] for name in args.parts or known}
    path = kernel.cache_dir("soak") / f"{_commit()}.json"
    state: dict[str, Rounds] = {}
    if path.exists() and not args.anew:
        state = json.loads(path.read_text())
    for number in (signal.SIGINT, signal.SIGTERM):  # also below a shell's &
        signal.signal(number, signal.default_int_handler)
    before = plugin._left()
    try:
        for name, part in chosen.items():
            _run(name, part, state, path)
    except KeyboardInterrupt:
        print("\nstopped: the same command goes on from here", file=sys.stderr)
    left = plugin.still_there(before)
    page = report(chosen, state, left)
    path.with_suffix(".txt").write_text(page)
    print(f"{page}{path.with_suffix('.txt')}")
    whole = all(
        name in state and len(state[name]["done"]) >= p.rounds for name, p in chosen.items()
    )
    return 0 if whole and not left and not any(state[n]["failed"] for n in chosen) else 1


def _run(name: str, part: Part, state: dict[str, Rounds], path: Path) -> None:
    rounds = state.setdefault(name, Rounds(done=[], failed={}, seconds=0.0, begun=[]))
    rounds["failed"] |= {
        str(number): "the whole run died in this round" for number in rounds["begun"]
    }
    rounds["done"] += rounds["begun"]
    rounds["begun"] = []
    waiting = [number for number in range(part.rounds) if number not in rounds["done"]]
    before, start = rounds["seconds"], time.monotonic()
    bar = tqdm(total=part.rounds, initial=len(rounds["done"]), desc=name, unit="round")
    running: dict[Connection, int] = {}
    stopped: list[int] = []

    def stop(number: int, _: object) -> None:
        print("\nstopping: the rounds that run come to their end", file=sys.stderr)
        stopped.append(number)

    handlers = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    while running or (waiting and not stopped):
        while waiting and not stopped and len(running) < part.at_once:
            number = waiting.pop(0)
            rounds["begun"].append(number)
            _keep(state, path)
            running[_begin(part, number)] = number
        for said in wait([*running]):
            assert isinstance(said, Connection)
            number = running.pop(said)
            if wrong := _verdict(said):
                rounds["failed"][str(number)] = wrong
            rounds["begun"].remove(number)
            rounds["done"].append(number)
            rounds["seconds"] = before + time.monotonic() - start
            bar.update()
    for number, handler in handlers.items():
        signal.signal(number, handler)
    bar.close()
    _keep(state, path)
    if stopped:
        raise KeyboardInterrupt


def _keep(state: dict[str, Rounds], path: Path) -> None:
    kernel.write_atomically(path, json.dumps(state).encode())


def _begin(part: Part, number: int) -> Connection:
    """Start a round in a process of its own; what comes of it is to be read there."""
    reader, writer = multiprocessing.Pipe(duplex=False)

    def child() -> None:
        os.setpgrp()  # Ctrl-C is for the one who starts the rounds
        for stop in (signal.SIGINT, signal.SIGTERM):
            signal.signal(stop, signal.default_int_handler)
        reader.close()
        try:
            part.one(number)
            writer.send("")
        except BaseException:  # it goes on: the report has every failure
            writer.send(traceback.format_exc(limit=-3))

    multiprocessing.get_context("fork").Process(target=child).start()
    writer.close()
    return reader


def _verdict(said: Connection) -> str:
    with said:
        try:
            return str(said.recv())
        except EOFError:
            return "the round's process died"


def report(chosen: dict[str, Part], state: dict[str, Rounds], left: dict[str, str]) -> str:
    """One page: a line a part, the failures, and what is left in the kernel."""
    lines = [f"Linux {platform.release()}, commit {_commit()}, {time.strftime('%Y-%m-%d')}", ""]
    lines.append(f"{'part':12} {'rounds':>13} {'failed':>6} {'minutes':>8}  a round is")
    for name, part in chosen.items():
        rounds = state.get(name, Rounds(done=[], failed={}, seconds=0.0, begun=[]))
        lines.append(
            f"{name:12} {len(rounds['done']):>6} of {part.rounds:<3} {len(rounds['failed']):>6} "
            f"{rounds['seconds'] / 60:>8.1f}  {part.unit}"
        )
    for name in chosen:
        for number, said in list(state.get(name, {}).get("failed", {}).items())[:3]:
            lines += ["", f"{name}, round {number}:", *said.rstrip().splitlines()[-4:]]
    lines += ["", "left in the kernel: " + (", ".join(left) or "nothing"), ""]
    return "\n".join(lines)


def _commit() -> str:
    line = ["git", "-C", str(kernel.ROOT), "rev-parse", "--short", "HEAD"]
    return subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
