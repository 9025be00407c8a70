"""The Python side of ``./course``: all of its commands but install."""

import argparse
import importlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from helpers.diagnostics import printable

ROOT = Path(__file__).resolve().parent.parent
FIRST = "notebooks/00_start_here.ipynb"
# Tests of many minutes, not among the others; and those of what is installed for these alone
LANES = {
    "--fresh": ["tests/fresh"],
    "--vagrant": ["tests/unit/test_vagrantfile.py", "tests/vagrant"],
}
# In a guest, tests alone: emulated, what nbval imports for notebooks takes half a minute.
ALONE = ["-p", "no:nbval", "-o", "addopts=-p no:cacheprovider -p tests.plugin"]
# What follows these is a word of one's own, and no path, even where a file has that name
WORDS = ("--kernel", "-k", "-m")


def lab(port: int | None, browser: bool) -> int:
    """Serve JupyterLab on 127.0.0.1 until a signal comes.

    The server runs in this process, so that signals reach it and its token, which opens a shell
    as root, shows in no list of processes.
    """
    if port is not None and (reason := _why_not(port)):
        print(
            f"Port {port} of 127.0.0.1 cannot be used: {reason}.\n"
            "Name another with --port, or none: then the next free one from 8888 on is used.",
            file=sys.stderr,
        )
        return 1
    from jupyterlab.labapp import LabApp

    from helpers.kernel import OWNER
    from helpers.vm import kernelspec

    os.environ.pop(OWNER, None)  # each notebook's kernel owns its pins itself
    kernelspec.offer()
    token = os.environ.pop("JUPYTER_TOKEN", "") or secrets.token_hex(24)
    os.chdir(ROOT)
    options = {
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.port": port or 8888,
        "ServerApp.port_retries": 0 if port else 50,
        "ServerApp.root_dir": ROOT,
        "ServerApp.default_url": f"/lab/tree/{FIRST}",
        "ServerApp.allow_root": os.geteuid() == 0,
        # A browser must not run as root: the person opens the line that is printed.
        "ServerApp.open_browser": browser and os.geteuid() != 0,
        "Application.log_level": "ERROR",
        "IdentityProvider.token": token,
        # Other people of this machine can listen on 127.0.0.1.
        "KernelManager.transport_encryption": "auto",
        # No request leaves the machine: no news, no look for updates, no list of extensions.
        "LabApp.news_url": None,
        "LabApp.check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
        "LabApp.extension_manager": "readonly",
    }
    server = LabApp.initialize_server(argv=[f"--{name}={value}" for name, value in options.items()])

    def announce() -> None:
        url = f"http://127.0.0.1:{server.port}/lab/tree/{FIRST}?token={token}"
        print(f"JupyterLab is at {url}  (stop it with Ctrl-C)", flush=True)

    server.io_loop.add_callback(announce)  # the server listens, and knows its port, only then
    # Without a terminal Jupyter's own way with SIGINT leaves the notebooks' kernels behind.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: server.stop(from_signal=True))
    server.start()
    return 0


def _why_not(port: int) -> str:
    """Why no server can listen there, in the system's words; empty when one can."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return error.strerror or str(error)
        except OverflowError:
            return "ports are numbers from 1 to 65535"
    return ""


def test(args: list[str]) -> int:
    """Run pytest with the repository's settings; paths are those of the folder one is in.

    With ``--kernel NAME`` first, notebooks run in guests with that kernel, two at a time, and all
    other tests together in one such guest. With ``--matrix`` first, notebooks run on every
    kernel that can be fetched, and a table says what came of each. With ``--soak`` first, the
    faults strike for hours. With ``--fresh`` or ``--vagrant`` first, it is the tests of whole
    machines that run, and no others.
    """
    pairs = zip(["", *args], args, strict=False)
    args = [arg if before in WORDS else _absolute(arg) for before, arg in pairs]
    os.chdir(ROOT)
    if args[:1] == ["--kernel"]:
        if len(args) < 2:
            print("Which kernel? ./course kernels  lists them.", file=sys.stderr)
            return 2
        return _test_in_guests(args[1], args[2:])
    if args[:1] == ["--matrix"]:
        return _test_everywhere(args[1:])
    if args[:1] == ["--soak"]:
        sys.path.insert(0, str(ROOT))
        return int(importlib.import_module("tests.faults.soak").main(args[1:]))
    if args and args[0] in LANES:
        os.environ["BPF_COURSE_LANE"] = args[0]  # there, what is skipped has failed
        for number in (signal.SIGINT, signal.SIGTERM):  # however they are stopped, they tidy up
            signal.signal(number, signal.default_int_handler)
        args = ["-v", "-s", "--durations=0", "--durations-min=1", *args[1:], *LANES[args[0]]]
    elif not _paths(args):  # all: those of guests beside those of this kernel, see tests/plugin.py
        args = ["-n", "2", "--dist", "loadscope", *args]
    import pytest

    return int(pytest.main(args))


def _paths(args: list[str]) -> list[str]:
    """Those that ``_absolute`` found to be paths."""
    return [arg for arg in args if arg[0:1] == "/" and Path(arg.partition("::")[0]).exists()]


def _of_notebooks(path: str) -> bool:
    """Is it a notebook, or a folder of them? Each of those gets a guest of its own."""
    where = Path(path.partition("::")[0])
    folders = [ROOT / "notebooks", ROOT / "labs"]
    below = any(where.is_relative_to(folder) for folder in folders)
    return where.suffix == ".ipynb" or (where.is_dir() and below)


def _test_in_guests(name: str, args: list[str]) -> int:
    import pytest

    from helpers.vm import commands, fetch, kernelspec

    fetch.get(name)
    kernelspec.offer()
    paths = _paths(args)
    options = [arg for arg in args if arg not in paths]
    paths = paths or [str(ROOT / "notebooks")]
    outside = [path for path in paths if _of_notebooks(path)]
    inside = [path for path in paths if path not in outside]
    codes = []
    if outside:
        guest = ["--nbval-kernel-name", kernelspec.name(name), "-o", "timeout=1200"]
        tally = os.environ.get("BPF_COURSE_TALLY")  # of a matrix, which has two kernels at work
        plugins = [_Tally(Path(tally))] if tally else []
        if not tally and (len(outside) > 1 or Path(outside[0]).is_dir()):
            guest += ["-n", "2", "--dist", "loadfile"]  # a guest mostly keeps one CPU busy
        codes.append(int(pytest.main([*guest, *options, *outside], plugins)))
    if inside:
        line = [sys.executable, "-m", "pytest", *ALONE, "-o", "timeout=1200", *options, *inside]
        codes.append(commands.run(name, line, {"BPF_COURSE_LANE": name}))
    return max(codes)


class _Tally:
    """A pytest plugin that tells, in a file, of each notebook what failed and what was lacking."""

    def __init__(self, path: Path) -> None:
        self.path, self.rows = path, dict[str, str]()
        self._now, self._failed, self._lacked = "", 0, list[str]()

    def pytest_runtest_logreport(self, report: Any) -> None:
        path = report.nodeid.partition("::")[0]
        if path != self._now:
            self._end()
            self._now = path
        self._failed += report.failed
        if report.skipped:
            self._lacked.append(report.longrepr[-1].removeprefix("Skipped: "))

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        if exitstatus != 2:  # interrupted: half of a notebook says nothing
            self._end()

    def _end(self) -> None:
        from helpers.kernel import write_atomically

        if self._now.endswith(".ipynb"):
            counted = Counter(self._lacked).items()
            said = ["passed", *(f"but for {number} cells: {why}" for why, number in counted)]
            self.rows[self._now] = f"{self._failed} failed" if self._failed else ", ".join(said)
            write_atomically(self.path, json.dumps(self.rows).encode())
        self._failed, self._lacked = 0, []


def _test_everywhere(args: list[str]) -> int:
    """Two kernels at a time: guests mostly keep one CPU busy."""
    from helpers.kernel import cache_dir
    from helpers.vm import commands, fetch

    for number in (signal.SIGINT, signal.SIGTERM):  # also below a shell's &
        signal.signal(number, signal.default_int_handler)
    commands.add([name for name in fetch.SUITES if not fetch.present(name)])
    releases = {name: fetch.get(name).release for name in fetch.SUITES}
    folder, waiting = cache_dir("matrix"), [*releases]
    rows: dict[str, dict[str, str]] = {name: {} for name in releases}
    running, codes = dict[str, subprocess.Popen[bytes]](), dict[str, int]()
    try:
        while waiting or running:
            while waiting and len(running) < 2:
                name = waiting.pop(0)
                running[name] = _begin(name, args, folder)
                print(f"{releases[name]:24} begins; what pytest says: {folder / name}.log")
            time.sleep(0.5)
            for name, process in [*running.items()]:
                code = process.poll()
                _tell(releases[name], rows[name], folder / f"{name}.json")
                if code is not None:
                    codes[name] = code
                    del running[name]
    except KeyboardInterrupt:
        for name, process in running.items():
            process.send_signal(signal.SIGINT)
            codes[name] = process.wait() or 2
    for path in sorted({path for told in rows.values() for path in told}):
        print(path)
        for name, told in rows.items():
            if path in told:
                print(f"  {releases[name]:24} {told[path]}")
    for name in (name for name, code in codes.items() if code):
        print(f"{releases[name]} ended with {codes[name]}: see {folder / name}.log")
    return max(codes.values(), default=2)


def _begin(name: str, args: list[str], folder: Path) -> "subprocess.Popen[bytes]":
    (folder / f"{name}.json").unlink(missing_ok=True)
    line = [sys.executable, "-P", "-m", "helpers.cli", "test", "--kernel", name, *args]
    with (folder / f"{name}.log").open("wb") as log:
        env = os.environ | {"BPF_COURSE_TALLY": str(folder / f"{name}.json")}
        return subprocess.Popen(line, env=env, stdout=log, stderr=log, stdin=subprocess.DEVNULL)


def _tell(release: str, known: dict[str, str], path: Path) -> None:
    """Print the notebooks that have come to their end since."""
    found: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    for notebook in [*found][len(known) :]:
        known[notebook] = found[notebook]
        print(f"{release:24} {notebook}: {found[notebook]}", flush=True)


def _absolute(arg: str) -> str:
    path, *node = arg.split("::")
    return "::".join([str(Path(path).resolve()), *node]) if Path(path).exists() else arg


def bench(args: list[str]) -> int:
    """Measure the course against other ways, and against the bare system calls."""
    sys.path.insert(0, str(ROOT))
    return int(importlib.import_module("tests.bench.__main__").main(args))


def doctor(as_json: bool) -> int:
    """Print what this machine can do; 0 when that is enough for the course."""
    from helpers.kernel import doctor as examine

    report = examine()
    print(report.as_json() if as_json else report)
    return 0 if report.ok else 1


def clean(everybody: bool, dry_run: bool) -> int:
    """Remove what killed notebooks left in the kernel, and all compiled objects; say what stays."""
    from helpers.kernel import cache_dir, owned, sweep

    removed = sweep(everybody=everybody, dry_run=dry_run)
    objects = cache_dir() / "objects"
    if objects.is_dir():
        if not dry_run:
            shutil.rmtree(objects)
        removed.append(str(objects))
    for what in removed or ["nothing: all is clean"]:
        did = "would remove" if dry_run else "removed"
        print(printable(f"{did} {what}"))  # a pin may have any name
    for folder in [] if everybody else owned():
        pid = folder.name.partition("_")[0]
        print(f"kept {folder}: process {pid} is at work with it; --all removes it, too")
    return 0


def check_labs(folder: Path, out: Path) -> int:
    """Check a folder of submissions, and say where the table is and what is in it."""
    from helpers.instructor import check_labs as check

    counted = check(folder, out)
    for name in sorted({name for name, _ in counted}):
        states = [f"{number} {state}" for (one, state), number in counted.items() if one == name]
        print(f"{name}: {', '.join(sorted(states))}")
    print(f"Each check is a row of {out}")
    return 0


def export_nbgrader(folder: Path) -> int:
    """Write an nbgrader course, and say what to do with it."""
    from helpers.instructor import export_nbgrader as export

    for path in export(folder):
        print(path)
    print(f"In {folder}, go on with: nbgrader generate_assignment NAME")
    return 0


def kernels(args: argparse.Namespace) -> int:
    """List, fetch or remove kernels for guests, or run a command in one."""
    from helpers.vm import commands

    if args.what == "run":
        return commands.run(args.name, args.line or ["uname", "-a"])
    if args.what in ("add", "remove"):
        return getattr(commands, args.what)(args.names)
    return commands.show()


def main() -> int:
    """Do what the command line says; what went wrong is said in words, never by a traceback."""
    try:
        return _run(sys.argv[1:])
    except OSError as error:  # BpfError among them
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def _run(line: list[str]) -> int:
    if line[:1] == ["test"]:  # the rest is pytest's
        return test(line[1:])
    if line[:1] == ["bench"]:
        return bench(line[1:])
    parser = argparse.ArgumentParser(prog="./course")
    commands = parser.add_subparsers(dest="command", required=True)
    of_lab = commands.add_parser("lab")
    of_lab.add_argument("--port", type=int)
    of_lab.add_argument("--no-browser", action="store_true")
    commands.add_parser("doctor").add_argument("--json", action="store_true")
    of_clean = commands.add_parser("clean")
    of_clean.add_argument("--all", action="store_true", help="running notebooks' pins, too")
    of_clean.add_argument("--dry-run", action="store_true", help="show it, and remove nothing")
    of_check = commands.add_parser("check-labs")
    of_check.add_argument("folder", type=Path)
    of_check.add_argument("--out", type=Path, default=Path("labs.csv"))
    commands.add_parser("export-nbgrader").add_argument("folder", type=Path)
    of_kernels = commands.add_parser("kernels").add_subparsers(dest="what")
    of_kernels.add_parser("add").add_argument("names", nargs="+")
    of_kernels.add_parser("remove").add_argument("names", nargs="+")
    of_run = of_kernels.add_parser("run")
    of_run.add_argument("name")
    of_run.add_argument("line", nargs=argparse.REMAINDER)
    args = parser.parse_args(line)
    if args.command == "lab":
        return lab(args.port, browser=not args.no_browser)
    if args.command == "kernels":
        return kernels(args)
    if args.command == "check-labs":
        return check_labs(args.folder, args.out)
    if args.command == "export-nbgrader":
        return export_nbgrader(args.folder)
    if args.command == "clean":
        return clean(args.all, args.dry_run)
    return doctor(args.json)


if __name__ == "__main__":
    sys.exit(main())
