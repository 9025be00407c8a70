"""Jupyter's side: a kernel provisioner that runs the IPython kernel in a guest.

``kernel.json`` names it (see ``kernelspec``), and ``jupyter_client`` finds it by its entry point,
``course-guest``. Start, interrupt, restart and shutdown then work as for any kernel: interrupts and
shutdown are messages, and whoever is killed is QEMU. Messages keep their HMAC key; the five ports
are forwarded from 127.0.0.1.
"""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from jupyter_client.provisioning import LocalProvisioner
from traitlets import Unicode

from helpers import kernel
from helpers.errors import BpfError
from helpers.vm import fetch
from helpers.vm.boot import INSIDE, Guest

SECONDS = 120  # that a kernel may take until it answers
# Run inside once the sockets are open. What became of the guest before this one is told in the
# first cell that runs: nothing else of a kernel that died can reach the notebook.
READY = f"open('{INSIDE}/ready', 'w').close()"
TOLD = """\
def _tell(*_):
    import sys
    get_ipython().events.unregister('pre_run_cell', _tell)
    print(open('{file}').read(), file=sys.stderr)
get_ipython().events.register('pre_run_cell', _tell)"""


class GuestProvisioner(LocalProvisioner):
    """Runs a kernel in a guest with the Linux that the kernelspec names."""

    linux = Unicode(config=True, help="The name of the kernel, such as 6.1.")

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._guest: Guest | None = None
        self._before, self._told_to_end = "", False

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        """Boot the guest, and wait until the IPython kernel in it has opened its sockets.

        Raises:
            BpfError: it did not come to that; the guest's last lines are in the message.
        """
        assert self.parent
        outside = json.loads(Path(self.parent.connection_file).read_text())
        ports = [value for name, value in outside.items() if name.endswith("_port")]
        files = {"connection.json": json.dumps({**outside, "ip": "0.0.0.0"})}
        lines = [READY]
        if self._before:
            files["before"] = self._before
            lines.append(TOLD.format(file=INSIDE / "before"))  # lines are cells, too
        guest = await asyncio.to_thread(
            Guest,
            fetch.get(self.linux),
            [
                *(
                    sys.executable,
                    "-m",
                    "ipykernel_launcher",
                    "-f",
                    str(INSIDE / "connection.json"),
                ),
                # What a guest writes into a home goes with it, so a history would serve nobody; and
                # in the middle of a cell SQLite was once heard to say that it cannot open it.
                "--HistoryManager.enabled=False",
                *(f"--IPKernelApp.exec_lines={line}" for line in lines),
            ],
            ports=ports,
            files=files,
            cwd=Path(kwargs.get("cwd") or kernel.ROOT),
        )
        self._guest, self.process = guest, guest.process
        self._before, self._told_to_end = "", False
        self.pid, self.pgid, self.ip = guest.process.pid, None, "127.0.0.1"
        deadline = time.monotonic() + SECONDS
        try:
            while not (guest.folder / "ready").exists():
                if guest.process.poll() is not None:
                    raise guest.failure()
                if time.monotonic() > deadline:
                    raise BpfError(
                        f"Linux {guest.kernel.release} did not answer within {SECONDS} s. It said "
                        f"last:\n{guest.last_words() or 'nothing'}"
                    )
                await asyncio.sleep(0.05)
        except BaseException:
            self._drop()
            raise
        return self.connection_info

    async def poll(self) -> int | None:
        """None while QEMU runs."""
        code = await super().poll()
        by_itself = code is not None and not self._told_to_end
        if by_itself and self._guest and not (self._guest.folder / "status").exists():
            self._before = str(self._guest.failure())
        return code

    async def kill(self, restart: bool = False) -> None:
        """End QEMU at once: the learner's wish, of which the next cell says nothing."""
        self._told_to_end = True
        await super().kill(restart)

    async def terminate(self, restart: bool = False) -> None:
        """End QEMU by SIGTERM."""
        self._told_to_end = True
        await super().terminate(restart)

    async def cleanup(self, restart: bool = False) -> None:
        """Leave no process and no folder; on a restart the ports are kept."""
        self._drop()
        if not restart:
            self._before = ""
        await super().cleanup(restart)

    def _drop(self) -> None:
        if self._guest:
            self._guest.close()
        self._guest = self.process = None
