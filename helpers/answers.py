"""A learner's Python, run where it can do no harm: ``Answer(file)``.

It runs in a process of its own: nobody's user, with the capabilities that maps and programs need
and no others; a read-only file tree with a small ``/tmp`` of its own; process ids and a network of
its own; and a limit on processes, memory and time. The two sides talk in lines of JSON over a
socket, and maps go along as file descriptors.

    with Answer(file) as answer:
        answer.call("totals", prog["counters"])

This file is both sides: ``python -m helpers.answers FILE`` is the process.
"""

import base64
import contextlib
import importlib.util
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Self

from helpers import btf, kernel
from helpers.cards import NotYet
from helpers.errors import Unsupported
from helpers.maps import BpfMap

SECONDS = 10  # that a call may take
TMP = 64 << 20  # bytes of /tmp, and of the largest file
MEMORY = 4 << 30  # bytes of addresses
PROCESSES = 64
FIRST_USER = 2_000_000_000  # nobody has these ids, and each process gets its own
# Without SYS_ADMIN and SYS_RESOURCE, so that the limit on processes holds.
CAPABILITIES = "bpf", "perfmon", "net_admin", "net_raw", "dac_read_search"


class Remote:
    """An object that stays on the other side; ``answer.call((remote, "method"), …)`` uses it."""

    def __init__(self, number: int) -> None:
        self.number = number


class Raised(Exception):
    """What the learner's code raised: ``kind`` is the name of the type, ``where`` the line."""

    def __init__(self, kind: str, text: str, where: str) -> None:
        super().__init__(f"{kind}: {text}" if text else kind)
        self.kind, self.text, self.where = kind, text, where


class Answer:
    """The learner's file, loaded in a process that is contained."""

    def __init__(self, file: Path, *readable: Path) -> None:
        """Start the process; ``readable`` are further files that it may see."""
        self.file = file
        self._seconds = float(SECONDS)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 -- until close()
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                _contained(file, readable, theirs.fileno()),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                start_new_session=True,
            )
        self._lines = self._socket.makefile("r", encoding="utf-8")
        try:
            self._exchange({}, [])
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, what: "str | tuple[Remote, str]", *args: Any, seconds: float = SECONDS) -> Any:
        """Call a function of the file, or a method of what such a call gave.

        Arguments and results are what JSON knows, and bytes, tuples, dicts with any keys, maps
        (as arguments) and frames (as results); a result of another kind becomes a ``Remote``.

        Raises:
            Raised: the learner's code raised.
            NotYet: it came to no end, it ended the process, or there is no such function.
        """
        self._seconds = seconds
        fds: list[int] = []
        target = [what[0].number, what[1]] if isinstance(what, tuple) else [None, what]
        return self._exchange({"call": target, "args": [_out(arg, fds) for arg in args]}, fds)

    def kill(self) -> None:
        """End the process at once, as ``kill -9`` does, and all that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        """End the process; twice is fine."""
        self.kill()
        self._lines.close()
        self._socket.close()
        self._log.close()

    def _exchange(self, message: dict[str, Any], fds: list[int]) -> Any:
        self._socket.settimeout(self._seconds)
        try:
            if message:
                line = json.dumps(message).encode() + b"\n"
                sent = socket.send_fds(self._socket, [line], fds)
                self._socket.sendall(line[sent:])
            while "btf" in (reply := json.loads(self._lines.readline() or "null") or self._gone()):
                self._socket.sendall(json.dumps(_types(reply["btf"])).encode() + b"\n")
        except TimeoutError:
            self.kill()
            raise NotYet(
                f"`{self.file.name}` was still at work after {self._seconds:g} s, and was stopped.",
                "Which of its loops has no end, or what does it wait for?",
            ) from None
        except (BrokenPipeError, ConnectionResetError):
            self._gone()
        if "raised" in reply:
            raise Raised(*reply["raised"])
        if "missing" in reply:
            raise NotYet(
                f"`{self.file.name}` has no `{reply['missing']}`.",
                "The task says what it is called. Did you give it another name?",
            )
        return _back(reply.get("value"))

    def _gone(self) -> dict[str, Any]:
        """The process has ended by itself."""
        code = self._process.wait()
        self._log.seek(0)
        last = self._log.read()[-2000:].decode(errors="replace").strip().splitlines()[-3:]
        if last and last[-1].startswith("bwrap:"):
            raise Unsupported(
                "a contained process for your Python",
                last[-1],
                "Run the course on a machine, or in a container, that may make namespaces.",
            )
        said = f" The last that it said: {' '.join(last)}" if last else ""
        raise NotYet(
            f"`{self.file.name}` ended its process (exit code {code}).{said}",
            "Your functions are called by the check. Which line leaves Python, or uses up what "
            "there is of memory?",
        )


def _contained(file: Path, readable: tuple[Path, ...], fd: int) -> list[str]:
    """The command line: bwrap makes the place, setpriv takes the privileges away."""
    bwrap = shutil.which("bwrap")
    if not bwrap:
        raise Unsupported("bubblewrap (bwrap)", "no bwrap on PATH", "./course install")
    user = str(FIRST_USER + os.getpid())
    bounding = ",".join(f"+{name}" for name in CAPABILITIES)
    return [
        bwrap,
        *("--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"),
        *("--perms", "1777", "--size", str(TMP), "--tmpfs", "/tmp"),
        *("--bind", str(kernel.BPFFS), str(kernel.BPFFS)),
        *[
            word
            for path in (kernel.ROOT, Path(sys.prefix), file, *readable)
            if path.is_relative_to("/tmp")
            for word in ("--ro-bind", str(path), str(path))
        ],
        *("--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-net"),
        *("--die-with-parent", "--new-session", "--clearenv", "--chdir", "/tmp"),
        *("--setenv", "PATH", os.environ.get("PATH", os.defpath)),
        *("--setenv", "HOME", "/tmp", "--setenv", "OPENBLAS_NUM_THREADS", "1"),
        *("--setenv", "PYTHONPATH", str(kernel.ROOT), "--setenv", "PYTHONDONTWRITEBYTECODE", "1"),
        *_kernel_source(),
        "setpriv",
        *("--reuid", user, "--regid", user, "--clear-groups", "--no-new-privs"),
        *("--inh-caps", f"-all,{bounding}", "--ambient-caps", f"-all,{bounding}"),
        *("--bounding-set", f"-all,{bounding}"),
        *(sys.executable, "-m", "helpers.answers", str(file), str(fd)),
    ]


def _kernel_source() -> list[str]:
    source = os.environ.get("BCC_KERNEL_SOURCE")
    return ["--setenv", "BCC_KERNEL_SOURCE", source] if source else []


def _types(number: int) -> str | None:
    """The kernel's BTF of an id, which only root may ask for, for the other side."""
    found = btf.raw(number)
    return None if found is None else base64.b64encode(found).decode()


# --- values on their way --------------------------------------------------------------------


def _out(value: Any, fds: list[int]) -> Any:
    if isinstance(value, BpfMap):
        fds.append(value.fileno())
        return {"map": value.name}
    if isinstance(value, Remote):
        return {"object": value.number}
    if isinstance(value, bytes | bytearray):
        return {"bytes": bytes(value).hex()}
    if isinstance(value, dict):
        return {"dict": [[_out(k, fds), _out(v, fds)] for k, v in value.items()]}
    if isinstance(value, tuple):
        return {"tuple": [_out(one, fds) for one in value]}
    if isinstance(value, list):
        return [_out(one, fds) for one in value]
    return value


def _back(value: Any) -> Any:
    if isinstance(value, list):
        return [_back(one) for one in value]
    if not isinstance(value, dict):
        return value
    [[kind, inner]] = value.items()
    if kind == "object":
        return Remote(inner)
    if kind == "bytes":
        return bytes.fromhex(inner)
    if kind == "tuple":
        return tuple(_back(one) for one in inner)
    if kind == "frame":
        import pandas as pd

        columns, rows = inner
        return pd.DataFrame([_back(row) for row in rows], columns=_back(columns))
    return {_back(key): _back(one) for key, one in inner}


# --- the process itself ---------------------------------------------------------------------


class _Side:
    """The learner's side of the socket."""

    def __init__(self, file: Path, fd: int) -> None:
        self.file = file
        self.socket = socket.socket(fileno=fd)
        self.lines, self.waiting = b"", list[int]()
        self.kept = list[Any]()
        self.module: Any = None

    def serve(self) -> None:
        btf.raw = self.types
        self.answer(self.load)
        while line := self.read():
            message = json.loads(line)
            number, name = message["call"]
            self.answer(partial(self.run, number, name, message["args"]))

    def read(self) -> bytes:
        while b"\n" not in self.lines:
            data, fds, _, _ = socket.recv_fds(self.socket, 1 << 16, 16)
            if not data:
                return b""
            self.lines += data
            self.waiting += fds
        line, _, self.lines = self.lines.partition(b"\n")
        return line

    def say(self, message: dict[str, Any]) -> None:
        self.socket.sendall(json.dumps(message).encode() + b"\n")

    def types(self, btf_id: int) -> bytes | None:
        self.say({"btf": btf_id})
        found = json.loads(self.read())
        return None if found is None else base64.b64decode(found)

    def load(self) -> None:
        spec = importlib.util.spec_from_file_location("answer", self.file)
        assert spec and spec.loader
        self.module = importlib.util.module_from_spec(spec)
        sys.modules["answer"] = self.module  # dataclasses look there
        spec.loader.exec_module(self.module)

    def run(self, number: int | None, name: str, args: list[Any]) -> Any:
        owner = self.module if number is None else self.kept[number]
        if not callable(found := getattr(owner, name, None)):
            raise _Missing(name)
        return found(*[self.argument(arg) for arg in args])

    def argument(self, value: Any) -> Any:
        if isinstance(value, dict) and "map" in value:
            return BpfMap(self.waiting.pop(0), name=value["map"])
        if isinstance(value, dict) and "object" in value:
            return self.kept[value["object"]]
        if isinstance(value, dict) and "dict" in value:
            return {self.argument(k): self.argument(v) for k, v in value["dict"]}
        if isinstance(value, dict) and "tuple" in value:
            return tuple(self.argument(one) for one in value["tuple"])
        if isinstance(value, list):
            return [self.argument(one) for one in value]
        return _back(value)

    def answer(self, work: Callable[[], Any]) -> None:
        try:
            self.say({"value": self.result(work())})
        except _Missing as missing:
            self.say({"missing": str(missing)})
        except Exception as error:
            self.say({"raised": self.told(error)})

    def told(self, error: Exception) -> list[str]:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(self.file)]
        if isinstance(error, SyntaxError) and error.filename == str(self.file):
            lines = [error.lineno]
        where = f"{self.file.name}:{lines[-1]}" if lines else self.file.name
        return [type(error).__name__, str(error), where]

    def result(self, value: Any) -> Any:
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, bytes | bytearray):
            return {"bytes": bytes(value).hex()}
        if isinstance(value, tuple):
            return {"tuple": [self.result(one) for one in value]}
        if isinstance(value, list):
            return [self.result(one) for one in value]
        if isinstance(value, dict):
            return {"dict": [[self.result(k), self.result(v)] for k, v in value.items()]}
        kind = type(value)
        if kind.__module__ == "numpy" and hasattr(value, "tolist"):
            return self.result(value.tolist())
        if kind.__module__.startswith("pandas") and kind.__name__ == "DataFrame":
            rows = value.astype(object).to_numpy().tolist()
            return {"frame": [self.result(list(value.columns)), self.result(rows)]}
        if kind.__module__.startswith("pandas") and kind.__name__ == "Series":
            return self.result(value.to_dict())
        self.kept.append(value)
        return {"object": len(self.kept) - 1}


class _Missing(Exception):
    """The learner's file has no function of that name."""


def _main(file: str, fd: str) -> None:
    for limit, most in {
        resource.RLIMIT_NPROC: PROCESSES,
        resource.RLIMIT_AS: MEMORY,
        resource.RLIMIT_FSIZE: TMP,
        resource.RLIMIT_CORE: 0,
    }.items():
        resource.setrlimit(limit, (most, most))
    _Side(Path(file), int(fd)).serve()


if __name__ == "__main__":
    _main(*sys.argv[1:])
