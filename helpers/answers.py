"""A learner's Python, run where it can do no harm: ``Answer(file)``.

It runs in a process of its own: nobody's user, with the capabilities that maps and programs need
and no others; of the files those that Python and the course need, read-only, and a small ``/tmp``;
process ids and a network of its own; and a limit on processes, memory and time. The two sides talk
in lines of JSON over a socket, and maps go along as file descriptors. Whoever gets hold of that
socket can make a check fail, and no more.

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
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, Self

from helpers import btf, kernel
from helpers.cards import NotYet
from helpers.errors import Unsupported
from helpers.maps import BpfMap

SECONDS = kernel.patience(10)  # that a call may take
TMP = 64 << 20  # bytes of /tmp, and of the largest file
MEMORY = 2 << 30  # bytes of addresses
PROCESSES = 64
REPLY = 16 << 20  # bytes of a result in JSON
TEXT = 500  # characters of what the learner's code raised or printed
FIRST_USER = 2_000_000_000  # nobody has these ids, and each process gets its own
# Without SYS_ADMIN and SYS_RESOURCE, so that the limit on processes holds.
CAPABILITIES = "bpf", "perfmon", "net_admin", "net_raw", "dac_read_search"
# All that a process there can see of this machine's files, apart from Python and the course.
VISIBLE = (
    "/usr", "/bin", "/sbin", "/lib", "/lib64", "/sys", "/boot", "/etc/alternatives",
    "/etc/ld.so.cache", "/etc/localtime", "/etc/os-release",
)  # fmt: skip


class Remote:
    """An object that stays on the other side; ``answer.call((remote, "method"), …)`` uses it."""

    def __init__(self, number: int) -> None:
        self.number = number


class Raised(Exception):
    """What the learner's code raised: ``kind`` is the name of the type, ``where`` the line.

    ``errno`` is the exception's own, 0 when it has none.
    """

    def __init__(self, kind: str, text: str, where: str, errno: int = 0) -> None:
        super().__init__(f"{kind}: {text}" if text else kind)
        self.kind, self.text, self.where, self.errno = kind, text, where, errno


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
        self._heard = b""
        try:
            self._exchange({}, [])
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(
        self,
        what: "str | tuple[Remote, str]",
        *args: Any,
        seconds: float = SECONDS,
        keep: bool = False,
    ) -> Any:
        """Call a function of the file, or a method of what such a call gave.

        Arguments and results are what JSON knows, and bytes, tuples, sets, dicts with any keys,
        maps (as arguments) and frames (as results); a result of another kind becomes a ``Remote``,
        and so does any with ``keep``: the object itself, to see who else holds on to it.

        Raises:
            Raised: the learner's code raised.
            NotYet: it came to no end, it ended the process, there is no such function, or what
                it gave is too large.
        """
        self._seconds = seconds
        fds: list[int] = []
        target = [what[0].number, what[1]] if isinstance(what, tuple) else [None, what]
        given = [_out(arg, fds) for arg in args]
        return self._exchange({"call": target, "args": given, "keep": keep}, fds)

    def pin(self, cpu: int) -> None:
        """Keep the process on one CPU, where that makes a difference to its maps."""
        self._seconds = SECONDS
        self._exchange({"cpu": cpu}, [])

    def kill(self) -> None:
        """End the process as ``kill -9`` does, with all that it started: then they are gone."""
        pid = self._process.pid
        if self._process.returncode is not None:
            return  # all has ended before, and the number may be another's by now
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            # The first process in there takes all others with it, and bwrap ends after it.
            for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                os.kill(int(child), signal.SIGKILL)
                self._process.wait(2)
                return
        os.killpg(pid, signal.SIGKILL)
        self._process.wait()

    def leave(self) -> None:
        """Let the process end by itself, as one whose work is done: its exit handlers run."""
        self._deadline = time.monotonic() + SECONDS
        with contextlib.suppress(OSError, NotYet):  # when it has closed its end of the socket
            self._say({"leave": True}, [])
            while "btf" in (reply := self._reply()):
                self._say(_types(reply["btf"]), [])
        self.kill()

    def close(self) -> None:
        """End the process; twice is fine."""
        self.kill()
        self._socket.close()
        self._log.close()

    def _exchange(self, message: dict[str, Any], fds: list[int]) -> Any:
        self._deadline = time.monotonic() + self._seconds
        try:
            if message:
                self._say(message, fds)
            while "btf" in (reply := self._reply()):
                self._say(_types(reply["btf"]), [])
            return self._meant(reply)
        except TimeoutError:
            self.kill()
            raise NotYet(
                f"`{self.file.name}` was still at work after {self._seconds:g} s, and was stopped.",
                "Which of its loops has no end, or what does it wait for?",
            ) from None
        except ConnectionError:
            self._gone()

    def _say(self, message: Any, fds: list[int]) -> None:
        self._patience()
        line = json.dumps(message).encode() + b"\n"
        sent = socket.send_fds(self._socket, [line], fds)
        self._socket.sendall(line[sent:])

    def _reply(self) -> dict[str, Any]:
        """The next line that the other side says."""
        while b"\n" not in self._heard:
            self._patience()
            data = self._socket.recv(1 << 20)
            if not data:
                self._gone()
            self._heard += data
            if len(self._heard) > REPLY:
                self.kill()
                raise NotYet(
                    f"`{self.file.name}` returned more than {REPLY >> 20} MB.",
                    "How many values does the task ask for?",
                )
        line, _, self._heard = self._heard.partition(b"\n")
        try:
            reply = json.loads(line)
        except (ValueError, RecursionError):
            reply = None
        return reply if isinstance(reply, dict) else self._nonsense()

    def _patience(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)

    def _meant(self, reply: dict[str, Any]) -> Any:
        if "missing" in reply:
            raise NotYet(
                f"`{self.file.name}` has no `{str(reply['missing'])[:TEXT]}`.",
                "The task says what it is called. Did you give it another name?",
            )
        try:
            if "raised" not in reply:
                return _back(reply["value"])
            *words, number = reply["raised"]
            kind, text, where = (str(one)[:TEXT] for one in words)
            number = int(number)
        except Exception:  # whatever it was, our own code did not send it
            self._nonsense()
        raise Raised(kind, text, where, number)

    def _nonsense(self) -> NoReturn:
        self.kill()
        raise NotYet(
            f"`{self.file.name}` wrote to the connection between the check and your functions.",
            "Which line of it writes to a file that it did not open?",
        )

    def _gone(self) -> NoReturn:
        """The process has ended by itself, or does not listen any more."""
        try:
            how = f"ended its process (exit code {self._process.wait(2)})"
        except subprocess.TimeoutExpired:
            self.kill()
            how = "closed a file that it did not open: the check's connection to your functions"
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - TEXT))
        last = self._log.read().decode(errors="replace").strip().splitlines()[-3:]
        if last and last[-1].startswith("bwrap:"):
            raise Unsupported(
                "a contained process for your Python",
                last[-1],
                "Run the course on a machine, or in a container, that may make namespaces.",
            )
        said = f" The last that it said: {' '.join(last)}" if last else ""
        raise NotYet(
            f"`{self.file.name}` {how}.{said}",
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
    source = os.environ.get("BCC_KERNEL_SOURCE") or kernel.find_headers()
    visible = [*VISIBLE, kernel.ROOT, sys.base_prefix, sys.prefix, file, *readable]
    visible += [Path(source).parent] if source else []
    return [
        bwrap,
        *("--dev", "/dev", "--proc", "/proc"),
        *("--perms", "1777", "--size", str(TMP), "--tmpfs", "/tmp"),
        *[word for path in visible for word in ("--ro-bind-try", str(path), str(path))],
        *("--bind", str(kernel.BPFFS), str(kernel.BPFFS), "--remount-ro", "/"),
        *("--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-net"),
        *("--die-with-parent", "--new-session", "--clearenv", "--chdir", "/tmp"),
        *("--setenv", "PATH", os.environ.get("PATH", os.defpath)),
        *("--setenv", "HOME", "/tmp", "--setenv", "OPENBLAS_NUM_THREADS", "1"),
        *("--setenv", kernel.OWNER, kernel.PINS.name),
        *("--setenv", "PYTHONPATH", str(kernel.ROOT), "--setenv", "PYTHONDONTWRITEBYTECODE", "1"),
        *(("--setenv", "BCC_KERNEL_SOURCE", str(source)) if source else ()),
        "setpriv",
        *("--reuid", user, "--regid", user, "--clear-groups", "--no-new-privs"),
        *("--inh-caps", f"-all,{bounding}", "--ambient-caps", f"-all,{bounding}"),
        *("--bounding-set", f"-all,{bounding}"),
        *(sys.executable, "-m", "helpers.answers", str(file), str(fd)),
    ]


def _types(number: Any) -> str | None:
    """The kernel's BTF of an id, which only root may ask for, for the other side."""
    found = btf.raw(number) if isinstance(number, int) and 0 <= number < 1 << 32 else None
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
    if isinstance(value, set | frozenset):
        return {"set": [_out(one, fds) for one in value]}
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
    if kind in ("tuple", "set"):
        return (tuple if kind == "tuple" else set)(_back(one) for one in inner)
    if kind == "frame":
        import pandas as pd

        columns, rows = inner
        return pd.DataFrame([_back(row) for row in rows], columns=_back(columns))
    return {_back(key): _back(one) for key, one in inner}


# --- the process itself ---------------------------------------------------------------------


class _Side:
    """The learner's side of the socket."""

    def __init__(self, file: Path, fd: int) -> None:
        self.file, self.pid = file, os.getpid()
        self.socket = socket.socket(fileno=fd)
        self.lines, self.waiting = b"", list[int]()
        self.kept = list[Any]()
        self.module: Any = None

    def serve(self) -> None:
        btf.raw = self.types
        self.answer(self.load)
        while line := self.read():
            message = json.loads(line)
            if "leave" in message:
                return
            if "cpu" in message:
                self.answer(partial(os.sched_setaffinity, 0, {message["cpu"]}))
                continue
            number, name = message["call"]
            work = partial(self.run, number, name, message["args"])
            self.answer(work, self.kept_here if message["keep"] else self.result)

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
        if os.getpid() != self.pid:
            os._exit(0)  # a fork of the learner's that comes back from the call: one answer is due
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
        if isinstance(value, dict) and ("tuple" in value or "set" in value):
            [[kind, inner]] = value.items()
            return (tuple if kind == "tuple" else set)(self.argument(one) for one in inner)
        if isinstance(value, list):
            return [self.argument(one) for one in value]
        return _back(value)

    def answer(self, work: Callable[[], Any], form: Callable[[Any], Any] | None = None) -> None:
        try:
            self.say({"value": (form or self.result)(work())})
        except _Missing as missing:
            self.say({"missing": str(missing)})
        except Exception as error:
            self.say({"raised": self.told(error)})

    def told(self, error: Exception) -> list[str | int]:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(self.file)]
        if isinstance(error, SyntaxError) and error.filename == str(self.file):
            lines = [error.lineno]
        where = f"{self.file.name}:{lines[-1]}" if lines else self.file.name
        try:
            text, number = str(error), getattr(error, "errno", 0)
        except Exception:  # a class of the learner's that cannot say what it is
            text, number = "", 0
        return [type(error).__name__, text[:TEXT], where, number if isinstance(number, int) else 0]

    def result(self, value: Any) -> Any:
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, bytes | bytearray):
            return {"bytes": bytes(value).hex()}
        if isinstance(value, tuple):
            return {"tuple": [self.result(one) for one in value]}
        if isinstance(value, set | frozenset):
            return {"set": [self.result(one) for one in value]}
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
        return self.kept_here(value)

    def kept_here(self, value: Any) -> Any:
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
