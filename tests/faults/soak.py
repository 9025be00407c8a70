"""The long form of tests/faults: ./course test --soak [--anew] [PART...]

It goes on where it was stopped, as long as the checkout is at the same commit, and ends with a
report of one page. A round in which the whole run died counts as failed.
"""

import argparse
import json
import platform
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import TypedDict

from tqdm import tqdm

from helpers import kernel
from tests import plugin
from tests.faults import Part, parts


class Rounds(TypedDict):
    """What is known of a part: what failed, by the round's number, and how long all took."""

    done: int
    failed: dict[str, str]
    seconds: float
    begun: bool


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
    whole = all(name in state and state[name]["done"] >= p.rounds for name, p in chosen.items())
    return 0 if whole and not left and not any(r["failed"] for r in state.values()) else 1


def _run(name: str, part: Part, state: dict[str, Rounds], path: Path) -> None:
    rounds = state.setdefault(name, Rounds(done=0, failed={}, seconds=0.0, begun=False))
    if rounds["begun"]:
        rounds["failed"][str(rounds["done"])] = "the whole run died in this round"
        rounds["done"] += 1
    bar = tqdm(total=part.rounds, initial=rounds["done"], desc=name, unit="round")
    while rounds["done"] < part.rounds:
        start, rounds["begun"] = time.monotonic(), True
        path.write_text(json.dumps(state))
        try:
            part.one(rounds["done"])
        except KeyboardInterrupt:
            rounds["begun"] = False
            path.write_text(json.dumps(state))
            raise
        except Exception:  # it goes on: the report has every failure
            rounds["failed"][str(rounds["done"])] = traceback.format_exc(limit=-3)
        rounds["begun"] = False
        rounds["done"] += 1
        rounds["seconds"] += time.monotonic() - start
        bar.update()
    bar.close()
    path.write_text(json.dumps(state))


def report(chosen: dict[str, Part], state: dict[str, Rounds], left: dict[str, str]) -> str:
    """One page: a line a part, the failures, and what is left in the kernel."""
    lines = [f"Linux {platform.release()}, commit {_commit()}, {time.strftime('%Y-%m-%d')}", ""]
    lines.append(f"{'part':12} {'rounds':>13} {'failed':>6} {'minutes':>8}  a round is")
    for name, part in chosen.items():
        rounds = state.get(name, Rounds(done=0, failed={}, seconds=0.0, begun=False))
        lines.append(
            f"{name:12} {rounds['done']:>6} of {part.rounds:<3} {len(rounds['failed']):>6} "
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
