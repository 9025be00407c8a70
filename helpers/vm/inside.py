"""What runs in a guest between its kernel and its command. Only the standard library is here.

    python inside.py [ready]

The guest's first script (``machine.INIT``) becomes this, in a file system that has a Python: the
machine's own, or, with ``ready``, a copy of the few files that it takes. It mounts what a guest is
made of, moves there, and runs the command that ``start.json`` names. It stays the first process:
where that one is, the kernel looks for the program that loads modules.

With ``ready`` it first imports what notebooks import and waits. Then the whole machine is saved to
a file, and every guest begins with the line that wakes it (``state.py``).
"""

import contextlib
import ctypes
import fcntl
import importlib
import json
import os
import random
import resource
import runpy
import sys
import time
import traceback
import tty
from pathlib import Path

FOLDER = "/run/course"  # where the guest sees its own folder
PLAIN = "trans=virtio,version=9p2000.L,msize=512000"
READ_ONLY, BIND, MOVE = 1, 4096, 8192  # sys/mount.h
RESEED = 0x5207  # RNDRESEEDCRNG of linux/random.h
FIRST_ROOT = 9  # INIT leaves the root that the kernel began with open there
WAITS = "course: waits"  # said on the console by the one that is to be saved
# What a kernel has imported by the time that it answers. Not matplotlib, which looks at the
# environment when it is imported.
IMPORTED = (
    "ipykernel_launcher ipykernel.kernelapp ipykernel.ipkernel ipykernel.debugger "
    "IPython.core.completerlib IPython.core.oinspect IPython.core.logger "
    "IPython.extensions.storemagic sqlite3 psutil tornado.platform.asyncio encodings.idna pandas"
).split()


def mount(kind: str, source: str, target: str, flags: int = 0, options: str = "") -> None:
    """mount(2), or OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    words = [word.encode() for word in (source, target, kind)]
    if libc.mount(*words, flags, options.encode()):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), target)


def preload() -> None:
    """Import what every notebook imports."""
    for name in IMPORTED:
        importlib.import_module(name)


def used() -> list[str]:
    """The files that it takes to import that, by their absolute paths."""
    opened = set[str]()

    def hear(event: str, args: tuple[object, ...]) -> None:
        if event == "open" and isinstance(args[0], str):
            opened.add(args[0])

    sys.addaudithook(hear)
    preload()
    # Some were opened before anybody could hear of it.
    opened |= {getattr(module, "__file__", None) or "" for module in [*sys.modules.values()]}
    mapped = Path("/proc/self/maps").read_text().splitlines()
    opened |= {line.split(maxsplit=5)[5] for line in mapped if " /" in line}
    # A compiled file is taken only beside the one that it was compiled from.
    opened |= {getattr(module, "__cached__", None) or "" for module in [*sys.modules.values()]}
    return sorted(path for path in opened if path.startswith("/") and os.path.isfile(path))


def wait_until_woken() -> None:
    """Say that all is ready, and return in another guest, at another time."""
    with open("/dev/ttyS1", "rb", buffering=0) as line:
        tty.setraw(line.fileno())
        print(WAITS, flush=True)
        said = b""
        while not said.endswith(b"\n"):
            said += line.read(1)
    # All guests that begin with this state would draw the same random numbers.
    with open("/dev/urandom", "wb", buffering=0) as pool:
        pool.write(said)
        fcntl.ioctl(pool, RESEED)
    random.seed()
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()


def drop(folder: str) -> None:
    """Give back the memory of files that are in use no more."""
    for path, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(path, name))


def make_root() -> dict[str, object]:
    """Mount all that a guest consists of, move there, and return what start.json says."""
    mount("tmpfs", "tmpfs", "/upper")
    os.mkdir("/upper/upper")
    os.mkdir("/upper/work")
    layers = "lowerdir=/lower,upperdir=/upper/upper,workdir=/upper/work"
    attempt("the kernel mounts no overlay", "overlay", "overlay", "/root", 0, layers)
    os.chdir("/root")
    for folder in ("tmp", "run", "var/tmp"):
        os.makedirs(folder, exist_ok=True)
        mount("tmpfs", "tmpfs", folder, 0, "mode=1777" if "tmp" in folder else "mode=755")
    os.mkdir(FOLDER[1:])
    attempt("there is no folder of the guest", "9p", "guest", FOLDER[1:], 0, PLAIN)
    plan: dict[str, object] = json.loads(Path(FOLDER[1:], "start.json").read_text())
    mount("proc", "proc", "proc")
    mount("sysfs", "sys", "sys")
    mount("devtmpfs", "dev", "dev")
    for folder in ("dev/pts", "dev/shm"):
        os.makedirs(folder, exist_ok=True)
    mount("devpts", "devpts", "dev/pts")
    mount("tmpfs", "tmpfs", "dev/shm", 0, "mode=1777")
    for kind, folder in {
        "bpf": "sys/fs/bpf",
        "tracefs": "sys/kernel/tracing",
        "debugfs": "sys/kernel/debug",
        "cgroup2": "sys/fs/cgroup",
    }.items():
        with contextlib.suppress(OSError):  # what is missing, doctor tells
            mount(kind, kind, folder)
    with contextlib.suppress(OSError):  # as systemd does: groups may limit memory
        Path("sys/fs/cgroup/cgroup.subtree_control").write_text("+memory")
    modules = f"lib/modules/{plan['release']}"
    os.makedirs(modules, exist_ok=True)
    os.mkdir("run/kernel")
    mount("9p", "kernel", "run/kernel", READ_ONLY, f"{PLAIN},cache=loose")
    mount("", f"run/kernel/{modules}", modules, BIND)
    # The course's folder is writable, and always read anew; its .venv is not, and cached.
    course = str(plan["course"])[1:]
    venv = os.path.isdir(f"{course}/.venv")
    if venv:
        os.mkdir("run/venv")
        mount("", f"{course}/.venv", "run/venv", BIND)
    os.makedirs(course, exist_ok=True)
    mount("9p", "course", course, 0, f"{PLAIN},cache=mmap")
    if venv:
        mount("", "run/venv", f"{course}/.venv", BIND)
    mount("", ".", "/", MOVE)
    os.chroot(".")
    return plan


def attempt(fault: str, *what: object) -> None:
    """Mount it, or end the guest with that sentence on its console."""
    try:
        mount(*what)  # type: ignore[arg-type]
    except OSError as error:
        raise SystemExit(f"course: {fault} ({error.strerror})") from None


def run(plan: dict[str, object]) -> int:
    """Run the command as this process or as another program, and return its exit status."""
    command: list[str] = plan["command"]  # type: ignore[assignment]
    out = os.open(f"{FOLDER}/out", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    if not (pid := os.fork()):
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.closerange(3, 16)
        if command[:2] != [sys.executable, "-m"]:
            os.execv(command[0], command)
        # Another Python would have to import all of it once more.
        sys.argv = command[2:]
        sys.path.insert(0, os.getcwd())
        importlib.invalidate_caches()
        runpy.run_module(command[2], run_name="__main__", alter_sys=True)
        sys.exit()
    ended = 0
    while ended != pid:  # others' children are ours, too, when those end
        ended, status = os.wait()
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def main(ready: bool) -> None:
    if ready:
        preload()
        os.fchdir(FIRST_ROOT)
        os.chroot(".")
        drop("/lower")
        wait_until_woken()
        options = f"{PLAIN},cache=loose"
        attempt("the kernel mounts no 9p", "9p", "root", "/lower", READ_ONLY, options)
    else:
        os.fchdir(FIRST_ROOT)
        os.chroot(".")
    os.close(FIRST_ROOT)
    plan = make_root()
    now = float(Path("/sys/class/rtc/rtc0/since_epoch").read_text())
    time.clock_settime(time.CLOCK_REALTIME, now + 0.5)  # it may have slept for days
    for limit, number in ((resource.RLIMIT_MEMLOCK, -1), (resource.RLIMIT_NOFILE, 65536)):
        resource.setrlimit(limit, (number, number))
    os.environ.clear()
    os.environ.update(plan["env"])  # type: ignore[call-overload]
    os.chdir(plan["cwd"])  # type: ignore[arg-type]
    status = run(plan)
    Path(FOLDER, "status").write_text(f"{status}\n")


def power_off() -> None:
    """reboot(2), whatever else runs: nothing of a guest outlives it."""
    os.sync()
    ctypes.CDLL(None).reboot(0x4321FEDC)  # LINUX_REBOOT_CMD_POWER_OFF


if __name__ == "__main__":
    del sys.path[0]  # our own folder, where others would find modules of ours
    if sys.argv[1:] == ["files"]:
        print("\n".join(used()))
    else:
        try:
            main(ready=sys.argv[1:] == ["ready"])
        except BaseException as error:
            if os.getpid() != 1:
                raise
            said = error if isinstance(error, SystemExit) else traceback.format_exc()
            print(said, file=sys.stderr, flush=True)  # on the console
        finally:
            if os.getpid() == 1:
                power_off()
