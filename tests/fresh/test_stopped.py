"""Of a run that is stopped nothing is left but a folder, and the next run removes that."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers import kernel
from tests.fresh.machines import RELEASES, Machine, made


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_nothing_outlives_a_run_that_is_stopped(how: signal.Signals) -> None:
    code = (
        "import signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # also below a shell's &
        "from tests.fresh.machines import RELEASES, made\n"
        "with made(RELEASES[0]) as machine:\n"
        "    print(machine.folder, flush=True)\n"
        "    machine.run('sleep', '1000')\n"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=kernel.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert owner.stdout
        folder = Path(owner.stdout.readline().strip())
        machine = Machine(RELEASES[0], folder, folder)
        while not machine.processes():
            assert owner.poll() is None
            time.sleep(0.05)
        owner.send_signal(how)
        owner.wait(20)
    finally:
        owner.kill()
        owner.wait()
    deadline = time.monotonic() + 10
    while machine.processes():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    if how == signal.SIGINT:
        assert not folder.exists()
    with made(RELEASES[0]) as after:  # sweeps what SIGKILL left
        assert after.folder != folder
        assert not folder.exists()
