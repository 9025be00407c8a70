"""How fast the course reads and writes maps, against the ways that others use, and the floor."""

import argparse
import os
import sys
import time
from pathlib import Path

from helpers import kernel
from tests.bench import entries, guests, loading, measure, streams, whole


def main(line: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="./course bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller sizes")
    parser.add_argument("--out", type=Path, help="the folder for bench.json and bench.png")
    parser.add_argument("--only", default="", help="the groups with this word in their name")
    parser.add_argument("--notebooks", action="store_true", help="time all notebooks, too")
    args = parser.parse_args(line)
    works = [*whole.WORKS, *entries.WORKS, *streams.WORKS, *loading.WORKS, *guests.WORKS]
    works += [loading.notebooks] if args.notebooks else []
    rows, start = list[measure.Row](), time.monotonic()
    about = measure.machine() | {"quick": args.quick, "load before": os.getloadavg()[0]}
    for work in works:
        if args.only in work.__name__:
            print(work.__name__.replace("_", " "), "…", file=sys.stderr, flush=True)
            rows += work(args.quick)
    about |= {"load after": os.getloadavg()[0], "seconds": round(time.monotonic() - start)}
    print(measure.table(rows))
    print(", ".join(f"{name}: {value}" for name, value in about.items()))
    for path in measure.save(rows, about, args.out or kernel.cache_dir("bench")):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
