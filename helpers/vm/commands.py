"""What ``./course kernels`` does."""

import contextlib
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from helpers.vm import fetch, kernelspec
from helpers.vm import state as saved
from helpers.vm.boot import Guest


def show() -> int:
    """Print a line a kernel: its name, what it is, and what it takes on disk."""
    for name, suite in fetch.SUITES.items():
        if found := fetch.present(name):
            state = f"{found.release:28} {found.bytes >> 20:4} MB  {found.title!r} in JupyterLab"
        else:
            state = f"{'-':28} Debian {suite}'s: ./course kernels add {name}"
        print(f"{name:8} {state}")
        if found and (why := saved.why_not(found)):
            print(f"{'':8} It boots each time, as its state could not be saved: {why}")
    return 0


def add(names: list[str]) -> int:
    """Fetch kernels, with a progress bar each, and offer them in JupyterLab."""
    from tqdm import tqdm

    for name in names:
        with tqdm(
            total=100,
            desc=name,
            bar_format="{desc}: {percentage:3.0f}% |{bar:30}| {postfix}",
            disable=None,
        ) as bar:

            def tell(share: float, what: str, bar: "tqdm[None]" = bar) -> None:
                bar.set_postfix_str(what, refresh=False)
                bar.update(100 * share - bar.n)

            found = fetch.add(name, tell)
        kernelspec.offer()
        print(
            f"{name}: Linux {found.release}, {found.bytes >> 20} MB, {found.title!r} in JupyterLab"
        )
    return 0


def remove(names: list[str]) -> int:
    """Remove kernels from the cache and from JupyterLab."""
    for name in names:
        fetch.remove(name)
        kernelspec.offer()
        print(f"removed {name}")
    return 0


def run(name: str, command: list[str], env: Mapping[str, str] = {}) -> int:
    """Run a command in a guest, in the folder one is in, and give its output and exit status."""
    at = 0
    with Guest(fetch.get(name), command, env=env, cwd=Path.cwd()) as guest:
        out = guest.folder / "out"
        while True:
            ended = guest.process.poll() is not None
            with contextlib.suppress(FileNotFoundError), out.open("rb") as file:
                file.seek(at)
                at += sys.stdout.buffer.write(file.read())
                sys.stdout.flush()
            if ended:
                return guest.wait()
            time.sleep(0.05)
