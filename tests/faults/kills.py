"""kill -9 to a notebook's kernel, to its server, or to a process that it started.

After each: no process is left, the sweep takes all that was pinned and nothing of anybody else's,
the learner's files are as they were, and the same notebook runs whole in a new kernel. The guests
of the kernel picker are killed in tests/vm/kills.py.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from helpers import kernel, lab, load, open_map, sandbox
from helpers.kernel import BPFFS, ROOT
from helpers.libbpf import lib
from tests import plugin
from tests.faults import Part
from tests.vm.conftest import until
from tests.vm.kills import below

# The first rounds are among the plain tests: quick notebooks, and one that has pinned by then.
FIRST = ["11_pinning", "00_start_here", "05_map_pinning"]
PATIENCE = 30  # seconds until all processes are gone: ipykernel looks for its server each second
VICTIMS = ["kernel", "server", "child"]
# What JupyterLab does with a notebook: start a kernel, and hand it one cell after the other. It
# says which, and leaves when its standard input is closed.
SERVER = """
import select, sys
import nbformat
from nbclient import NotebookClient
path, *missing = sys.argv[1:]
notebook = nbformat.read(path, as_version=4)
where = {"metadata": {"path": path.rpartition("/")[0]}}
client = NotebookClient(notebook, timeout=120, kernel_name="python3", resources=where)
with client.setup_kernel():
    print("kernel", client.km.provisioner.pid, flush=True)
    for at, cell in enumerate(notebook.cells):
        if cell.cell_type == "code" and not {*cell.metadata.get("tags", [])} & {*missing}:
            if select.select([sys.stdin], [], [], 0)[0]:
                break
            print("cell", at, flush=True)
            client.execute_cell(cell, at)
    else:
        print("end", flush=True)
        sys.stdin.read()
"""


class Notebook:
    """A notebook that runs, in a kernel and under a server of its own."""

    def __init__(self, path: Path, work: Path) -> None:
        self.path, self._mark = path, f"BPF_COURSE_WORK={work}\0".encode()
        self._said, self._errors = work.with_suffix(".said"), work.with_suffix(".errors")
        missing = [f"needs-{name}" for name in kernel.missing()]
        env = {name: value for name, value in os.environ.items() if name != kernel.OWNER}
        with self._said.open("w") as said, self._errors.open("w") as errors:
            self.server = subprocess.Popen(
                [sys.executable, "-c", SERVER, str(path), *missing],
                env=env | {"BPF_COURSE_WORK": str(work)},
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=errors,
                start_new_session=True,
            )
        self.seen = dict[int, str]()  # its processes, and when each began
        self.held = set[str]()  # what they held in the kernel: "map 7"

    def said(self) -> list[str]:
        return self._said.read_text().splitlines()

    def errors(self) -> str:
        return self._errors.read_text()

    def over(self) -> bool:
        return self.server.poll() is not None or "end" in self.said()

    def kernel(self) -> int:
        """The number of the kernel's process."""
        until(lambda: self.server.poll() is not None or "kernel" in " ".join(self.said()))
        lines = [line for line in self.said() if line.startswith("kernel ")]
        assert lines, f"no kernel has started:\n{self.errors()}"
        return int(lines[0].split()[1])

    def children(self) -> list[int]:
        """The processes that the notebook has started, directly or not."""
        return [*below(self.kernel())]

    def see(self) -> None:
        """Remember which processes there are, those too that have lost their parents."""
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it ended meanwhile
                if self._mark in (process / "environ").read_bytes():
                    self.seen.setdefault(int(process.name), kernel._started(process.name))
        for pid in [*self.seen]:  # a contained one has an environment of its own
            for one in below(pid):
                self.seen.setdefault(one, kernel._started(one))

    def look(self) -> None:
        """Remember that, and what they hold."""
        self.see()
        ours = set(map(str, self.seen))
        self.held |= {what for what, pids in plugin._holders().items() if pids & ours}

    def left(self) -> list[int]:
        """Those of its processes that are still there."""
        self.see()
        return [pid for pid, began in self.seen.items() if kernel._lives(str(pid), began)]

    def leave(self) -> None:
        """Let it come to the end of its cell, and see that all processes end."""
        assert self.server.stdin
        self.look()
        self.server.stdin.close()
        self.server.wait(150)
        until(lambda: not self.left(), PATIENCE)


def one(number: int) -> str:
    """A round, with a BPF file system of its own: the sweep is the real one. What it did."""
    return sandbox.with_own_pins(lambda: _round(number))


def _round(number: int) -> str:
    notebook, victim, share, delay = _plan(number)
    with TemporaryDirectory() as scratch, Foreign(Path(scratch)) as others:
        work, foreign = Path(scratch) / "work", others.state()
        fill(work)
        learned = files(work)
        killed = Notebook(notebook, work)
        try:
            struck = _strike(killed, victim, share, delay)
            told = f"round {number}: {struck} of {notebook.name} killed"
            killed.leave()
        finally:
            end(killed)
        pinned = {str(path) for path in (kernel.OURS, *kernel.OURS.rglob("*")) if path.exists()}
        assert {*kernel.sweep(dry_run=True)} == pinned, told
        assert {*kernel.sweep()} == pinned, told
        assert not kernel.OURS.exists(), told
        _gone(killed.held, told)
        assert others.state() == foreign, told
        assert files(work) == learned, told
        again = Notebook(notebook, work)
        try:
            until(again.over, 240)
            assert again.said()[-1:] == ["end"], f"{told}, and then:\n{again.errors()}"
            again.leave()
            assert again.server.returncode == 0, f"{told}, and then:\n{again.errors()}"
        finally:
            end(again)
        kernel.sweep()
        _gone(again.held, told)
        assert others.state() == foreign, told
        assert files(work) == learned, told
    return f"{told}; {len(killed.seen)} processes, {len(killed.held)} objects, {len(pinned)} swept"


def _gone(held: set[str], told: str) -> None:
    """Whatever they held, the kernel frees it, some time after its last holder went."""
    deadline = time.monotonic() + PATIENCE
    while left := {what for what in held & _unheld() if not plugin.stuck(what)}:
        assert time.monotonic() < deadline, f"{told}, and {', '.join(left)} is still there"
        time.sleep(0.1)


def _unheld() -> set[str]:
    """The programs, maps and links that no process holds."""
    ids = {f"{kind} {number}" for kind in ("map", "prog", "link") for number in kernel.ids(kind)}
    return ids - plugin._holders().keys()


def _plan(number: int) -> tuple[Path, str, float, float]:
    """Which notebook; who is killed, after which share of its cells, how long after that began."""
    # 14 starts guests of other kernels: an hour of them, and another test's victims.
    paths = [*ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("labs/*/lab.ipynb")]
    named = {path.parent.name if path.stem == "lab" else path.stem: path for path in sorted(paths)}
    names = [*FIRST, *(name for name in named if name not in FIRST and not name.startswith("14_"))]
    dice = random.Random(number)
    path = named[names[number % len(names)]]  # each of them meets each victim in time
    victim = VICTIMS[(number + number // len(names)) % len(VICTIMS)]
    delay, share = dice.uniform(0, 0.2), dice.uniform(0, 0.8)
    return path, victim, share, delay


def _strike(notebook: Notebook, victim: str, share: float, delay: float) -> str:
    """Wait for the moment, and kill; who it was, in words. Where there is no child, the kernel."""
    pid = notebook.kernel()
    cells = sum(
        cell["cell_type"] == "code" for cell in json.loads(notebook.path.read_text())["cells"]
    )
    until(lambda: notebook.over() or len(notebook.said()) > share * cells, 240)
    time.sleep(delay)
    assert notebook.server.poll() is None, notebook.errors()  # nobody was killed yet
    at = f"after {notebook.said()[-1]} and {delay:.2f} s"
    while victim == "child" and not notebook.over():
        notebook.see()
        if children := notebook.children():
            child = random.Random(share).choice(children)
            name = Path(f"/proc/{child}/comm")
            try:
                who = f"{name.read_text().strip()}, a child"
                os.kill(child, signal.SIGKILL)
            except (FileNotFoundError, ProcessLookupError):  # it was done before we struck
                continue
            return f"{who}, {at},"
    notebook.look()
    doomed = notebook.server.pid if victim == "server" else pid
    try:
        os.kill(doomed, signal.SIGKILL)
    except ProcessLookupError:  # a cell has failed, and all was ending by itself
        notebook.server.wait(30)
        raise AssertionError(notebook.errors()) from None
    return f"the {'server' if victim == 'server' else 'kernel'}, {at},"


def end(notebook: Notebook) -> None:
    """Whatever came between, leave no process."""
    for pid in notebook.left():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    notebook.server.communicate()


class Foreign:
    """What somebody else has in this kernel: a program, a map of a name of ours, a network."""

    def __init__(self, scratch: Path) -> None:
        self._prog = load("pinning.bpf.c")
        self._prog.run("count", data=sandbox.udp(), repeat=3)
        self._map = self._prog["totals"].pin(BPFFS / "foreign_totals")
        self._program = BPFFS / "foreign_program"
        fd = self._prog.function("count").fileno()
        assert lib().bpf_obj_pin(fd, os.fsencode(self._program)) == 0
        self._net = scratch / "foreign_network"
        self._net.touch()
        subprocess.run(["unshare", f"--net={self._net}", "true"], check=True)

    def state(self) -> list[object]:
        inside = ["nsenter", f"--net={self._net}", "readlink", "/proc/self/ns/net"]
        show = [kernel.bpftool(), "-j", "prog", "show", "pinned", str(self._program)]
        network, told = (
            subprocess.run(line, check=True, capture_output=True).stdout for line in (inside, show)
        )
        program = json.loads(told)
        del program["loaded_at"]  # it moves when somebody sets the clock of the machine
        with open_map(pin=self._map) as there:
            return [network, program, there.id, dict(there)]

    def __enter__(self) -> "Foreign":
        return self

    def __exit__(self, *_: object) -> None:
        self._prog.close()
        self._map.unlink()
        self._program.unlink()
        subprocess.run(["umount", str(self._net)], check=True)


def fill(work: Path) -> None:
    """What somebody has written: programs and answers for all labs, older ones, and notes."""
    (work / "history").mkdir(parents=True)
    for ex in map(lab.open, (folder.name for folder in lab.folders())):
        for path in ex._together(ex.solutions()[0]):
            name = ex.folder.name + path.name.removeprefix(lab._stem(path))
            (work / name).write_bytes(path.read_bytes())
            (work / "history" / name).write_bytes(path.read_bytes()[:-9])
    (work / "notes").write_bytes(os.urandom(4096))


def files(work: Path) -> dict[Path, bytes]:
    """All files there but the one that a check writes, which must never be half-written."""
    found = {path: path.read_bytes() for path in work.rglob("*") if path.is_file()}
    json.loads(found.pop(work / "progress.json", b"{}"))
    return found


PART = Part(
    one, rounds=500, short=3, unit="a kill -9, a sweep, and the notebook once more", at_once=2
)
