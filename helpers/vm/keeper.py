"""The process that keeps one QEMU, so that nothing outlives the guest's owner, however it ended.

    python keeper.py FOLDER COMMAND...

The owner holds the other end of our standard input. When that closes, QEMU is killed and FOLDER,
the guest's, is removed. When QEMU ends first, we end with its exit code, and FOLDER is the owner's
to read and to remove.

A kernel that panics before the guest's command begins is booted again, twice at most: QEMU before
8.1 may run an instruction that Linux has exchanged (``boot.HALF_PATCHED``), and nothing of the
learner's has run by then.
"""

import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1  # linux/prctl.h
BOOTS = 3


def main(folder: str, *command: str) -> int:
    """Run the command until it ends, or until standard input does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # that one is for the code in the guest
    for left in reversed(range(BOOTS)):
        code = run(folder, command)
        if not left or not panicked_early(folder):
            break
    return code


def run(folder: str, command: Sequence[str]) -> int:
    """Run the command once."""
    prctl, me = ctypes.CDLL(None).prctl, os.getpid()

    def die_with_me() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != me:
            os._exit(1)

    log, wake = (os.path.join(folder, name) for name in ("qemu.log", "wake"))
    with open(log, "wb") as out, open(wake, "rb") as line:
        process = subprocess.Popen(
            command, stdin=line, stdout=out, stderr=out, preexec_fn=die_with_me
        )
    signal.signal(signal.SIGTERM, lambda *_: process.kill())
    ended = os.pidfd_open(process.pid)
    poll = select.poll()
    poll.register(0, select.POLLHUP)
    poll.register(ended, select.POLLIN)
    if all(fd != ended for fd, _ in poll.poll()):
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)
    os.close(ended)
    return process.wait()


def panicked_early(folder: str) -> bool:
    """Did the kernel panic before the guest's command, which has its output in ``out``?"""
    try:
        with open(os.path.join(folder, "console"), "rb") as console:
            return b"Kernel panic" in console.read() and not os.path.exists(f"{folder}/out")
    except FileNotFoundError:
        return False


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
