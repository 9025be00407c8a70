"""One Linux guest: a fetched kernel in QEMU, over this machine's own file system.

The guest's root is this machine's, read-only below an overlay in memory; the course's folder is
writable, and so is the folder of the guest itself, at ``/run/course``. Its network card reaches
nobody: only ports that are named are forwarded, from 127.0.0.1 to the guest. No root is needed.

Where processors are emulated, a guest does not boot: it begins as a copy of one that has booted and
imported what notebooks import (``state.py``).
"""

import contextlib
import itertools
import json
import os
import re
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self

from helpers import kernel
from helpers.errors import BpfError
from helpers.vm import machine, state
from helpers.vm.fetch import Kernel
from helpers.vm.inside import FOLDER

INSIDE = Path(FOLDER)
PANIC = r"Kernel panic|BUG:|Oops|int3: |sysrq: |Out of memory"
# Linux puts int3 where it exchanges code, and has a handler for who runs into it meanwhile. Who
# does so afterwards has the code of then: QEMU's "accel/tcg: Always lock pages before translation".
HALF_PATCHED = r"\bint3: 0000 \[#"


class EmulatorFault(BpfError):
    """QEMU ran code that is there no more: nothing was wrong with what ran in the guest."""


def in_guest() -> bool:
    """Is this Python inside a guest? Then it can start no other."""
    return (INSIDE / "start.json").exists()


class Guest:
    """A running guest, with one command in it; it ends with the command.

    ``folder`` is shared with the guest, which sees it at ``/run/course``: ``files`` are put there
    first; the command's output is in ``out`` and its exit status in ``status``.
    """

    _numbers = itertools.count()

    def __init__(
        self,
        of: Kernel,
        command: Iterable[str],
        *,
        ports: Iterable[int] = (),
        files: Mapping[str, str | bytes] = {},
        env: Mapping[str, str] = {},
        cwd: Path = kernel.ROOT,
        memory: int = machine.MEMORY,
    ) -> None:
        machine.qemu()  # rather say that there is none than that it needs memory
        _room_for(memory)
        accelerator = machine.choose(of)
        self.kernel = of
        plan = {
            "release": of.release,
            "course": str(kernel.ROOT),
            "env": _env(env),
            "cwd": str(cwd),
            "command": _found(command),
        }
        files = {**files, "start.json": json.dumps(plan), "wake": state.line()}
        with contextlib.ExitStack() as made:
            self._saved = state.of(of, accelerator, memory)
            if self._saved:
                made.enter_context(self._saved)
            runs = kernel.cache_dir("vm", "guests")
            _sweep(runs)
            self.folder = runs / f"{os.getpid()}-{next(self._numbers)}"
            self.folder.mkdir(mode=0o700)
            made.callback(shutil.rmtree, self.folder, ignore_errors=True)
            for name, text in files.items():
                (self.folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
            line = machine.whole(of, accelerator, memory, self.folder, ports=ports)
            if self._saved:
                opened = f"/proc/{os.getpid()}/fd/{self._saved.fileno()}"
                line += ["-incoming", f"exec:zstd -qdc <{opened}"]
            self.process = machine.keep(self.folder, line)
            made.callback(machine.end, self.process)
            self._made = made.pop_all()  # until close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def wait(self, seconds: float | None = None) -> int:
        """Wait for the end of the command, and return its exit status.

        Raises:
            BpfError: the guest ended in another way; its last lines are in the message.
            subprocess.TimeoutExpired: it is still running.
        """
        self.process.wait(seconds)
        try:
            return int((self.folder / "status").read_text())
        except (OSError, ValueError):
            raise self.failure() from None

    def failure(self) -> BpfError:
        """What to say of a guest that ended before its command did."""
        if self._saved and "load of migration failed" in self.last_words():
            Path(self._saved.name).unlink(missing_ok=True)
            return BpfError(
                f"The saved state of Linux {self.kernel.release} is damaged, and was removed.\n"
                "Start again: the next guest boots, and saves it anew."
            )
        if re.search(HALF_PATCHED, self.last_words()):
            return EmulatorFault(
                f"The emulator let Linux {self.kernel.release} down: QEMU before 8.1 may run an "
                "instruction\nthat Linux has just exchanged for another. It is rare, and no "
                f"fault of yours.\nStart again. The guest said last:\n{self.last_words()}"
            )
        return BpfError(
            f"The guest with Linux {self.kernel.release} ended by itself. It said last:\n"
            f"{self.last_words() or 'nothing'}"
        )

    def last_words(self, lines: int = 6) -> str:
        """The end of what the guest's console, its command and QEMU said."""
        said = []
        for name in ("qemu.log", "console", "out"):
            with contextlib.suppress(OSError):
                text = (self.folder / name).read_bytes()[-16000:].decode(errors="replace")
                spoken = [line for line in _plain(text).splitlines() if line.strip()]
                # A panic ends in registers and addresses; why it came stands further up.
                why = [line for line in spoken[:-lines] if re.search(PANIC, line)]
                said += why[:4] + spoken[-lines:]
        return "\n".join(said)

    def close(self) -> None:
        """End the guest at once; twice is fine."""
        self._made.close()


def _found(command: Iterable[str]) -> list[str]:
    """With the path of the program: the shell in the guest would take busybox's of that name."""
    program, *rest = command
    return [shutil.which(program) or program, *rest]


def _env(more: Mapping[str, str]) -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if name.startswith("BPF_COURSE_")}
    ours.pop(kernel.OWNER, None)  # a process of this machine owns no pins in there
    headers = os.environ.get("BCC_KERNEL_SOURCE") or str(kernel.cache_dir() / "headers/current")
    return {
        "PATH": f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(Path.home()),
        "LANG": "C.UTF-8",
        "BCC_KERNEL_SOURCE": headers,
        "PYTHONDONTWRITEBYTECODE": "1",
        **ours,
        **more,
    }


def _room_for(memory: int) -> None:
    """Raise BpfError unless the machine has that many MiB: else it would end other processes."""
    free = re.search(r"^MemAvailable: +(\d+)", Path("/proc/meminfo").read_text(), re.MULTILINE)
    if free and int(free[1]) >> 10 < memory:
        raise BpfError(
            f"A guest takes up to {memory:,} MB of free memory, and this machine has "
            f"{int(free[1]) >> 10:,}.\nShut down other programs, or other kernels: JupyterLab "
            "lists them at its left."
        )


def _sweep(runs: Path) -> None:
    """Remove the folders of guests whose owner is gone."""
    for path in runs.iterdir():
        if not Path("/proc", path.name.partition("-")[0]).exists():
            shutil.rmtree(path, ignore_errors=True)


def _plain(text: str) -> str:
    """Without terminal escapes."""
    return re.sub(r"\x1b[\[\]()][0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f]", "", text)
