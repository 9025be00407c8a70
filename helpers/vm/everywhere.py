"""The same Python on this kernel and on every other that is at hand, in guests.

    everywhere(lru_survivors, padding)

A function travels with all that it needs (cloudpickle). What it returns comes back as JSON: nothing
of a guest's is executed here.
"""

import json
import pickle
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.errors import BpfError
from helpers.vm import fetch
from helpers.vm.boot import INSIDE, EmulatorFault, Guest, in_guest

if TYPE_CHECKING:
    import pandas as pd

SECONDS = 300  # that one kernel may take


def everywhere(*facts: Callable[[], Any]) -> "pd.DataFrame":
    """Call each function on this kernel and in a guest for each fetched one, two at a time.

    One row a kernel ("Linux 6.1"), oldest first; one column a function, with what it returned: data
    that JSON has. The column ``release`` is the kernel's whole name.

    Cost: some seconds a kernel where guests are emulated. Inside a guest, its own kernel is the
    only one.

    Raises:
        BpfError: a function raised; kernel, function and error are in the message.
    """
    import pandas as pd

    kernels = [] if in_guest() else fetch.kernels()
    begun = time.monotonic()
    rows = list[dict[str, Any]]()

    def add(row: dict[str, Any]) -> None:
        rows.append(row)
        print(f"Linux {row['release']} answered after {time.monotonic() - begun:.0f} s", flush=True)

    # Alone and first: what it compiles lies in the cache, and guests need not compile it again.
    add(ask(None, *facts))
    with ThreadPoolExecutor(2) as pool:
        for done in as_completed([pool.submit(ask, of, *facts) for of in kernels]):
            add(done.result())
    rows.sort(key=lambda row: _numbers(row["release"]))
    names = ["Linux {}.{}".format(*_numbers(row["release"])) for row in rows]
    return pd.DataFrame(rows, index=pd.Index(names, name="kernel"))


def ask(of: fetch.Kernel | None, *facts: Callable[[], Any]) -> dict[str, Any]:
    """What the functions return on that kernel, by their names, and its release; None is this one.

    Raises:
        BpfError: as ``everywhere()``.
    """
    import cloudpickle

    work = cloudpickle.dumps(facts)
    command = [sys.executable, "-m", "helpers.vm.everywhere"]
    release = of.release if of else platform.release()
    with tempfile.TemporaryDirectory() as scratch:
        if of:
            status, said, answers = _in_guest(of, [*command, str(INSIDE)], work)
        else:
            Path(scratch, "facts").write_bytes(work)
            done = subprocess.run(
                [*command, scratch], capture_output=True, text=True, timeout=SECONDS
            )
            status, said = done.returncode, done.stderr
            answers = _read(Path(scratch, "answers"))
    if status or not answers:
        raise BpfError(f"On Linux {release}, Python ended with exit code {status}:\n{said}")
    if error := answers.pop("raised", None):
        raise BpfError(f"On Linux {release}, {error}")
    return {"release": release, **answers}


def _in_guest(
    of: fetch.Kernel, command: list[str], work: bytes, again: bool = True
) -> tuple[int, str, dict[str, Any]]:
    """Exit status, last words and answers; asked once more when the emulator was at fault."""
    try:
        with Guest(of, command, files={"facts": work}) as guest:
            try:
                status = guest.wait(SECONDS)
            except subprocess.TimeoutExpired:
                raise BpfError(
                    f"Linux {of.release} did not answer within {SECONDS} s. It said last:\n"
                    f"{guest.last_words() or 'nothing'}"
                ) from None
            return status, guest.last_words(), _read(guest.folder / "answers")
    except EmulatorFault as fault:
        if not again:
            raise
        print(f"{fault}\nLinux {of.release} is asked once more.", file=sys.stderr)
    return _in_guest(of, command, work, again=False)


def _read(path: Path) -> dict[str, Any]:
    answers: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return answers


def _numbers(release: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", release)[:2])


def _main(folder: str) -> None:
    """Call what is in ``folder/facts``, and write what comes back to ``folder/answers``."""
    answers = dict[str, Any]()
    for fact in pickle.loads(Path(folder, "facts").read_bytes()):
        try:
            answers |= json.loads(json.dumps({fact.__name__: fact()}))
        except Exception as error:  # it is told where the function was written
            answers["raised"] = f"{fact.__name__}() raised {type(error).__name__}: {error}"
            break
    Path(folder, "answers").write_text(json.dumps(answers))


if __name__ == "__main__":
    _main(*sys.argv[1:])
