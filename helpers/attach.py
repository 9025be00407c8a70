"""Attaching programs: to interfaces, socket maps, processes, tracepoints and kernel functions."""

import contextlib
import ctypes
import errno
import os
import platform
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, Protocol

from helpers.diagnostics import printable
from helpers.errors import (
    BpfError,
    LayoutError,
    NotFound,
    PermissionNeeded,
    Unsupported,
    check_exhausted,
    describe,
)
from helpers.libbpf import lib
from helpers.maps import BpfMap

# enum bpf_prog_type and enum bpf_attach_type of <linux/bpf.h>, as far as they are named here
KPROBE, TRACEPOINT, XDP, PERF_EVENT, SK_SKB, SK_MSG = 2, 5, 6, 7, 14, 16
TRACEFS = Path("/sys/kernel/tracing")
_STREAM_VERDICT, _MSG_VERDICT, _ON_XDP = 5, 7, 37


class Device(Protocol):
    """A network interface, perhaps in a namespace of its own."""

    ifindex: int

    def inside(self) -> contextlib.AbstractContextManager[Any]: ...


class Function:
    """One program of an object: what ``prog.function(name)`` gives, the value of a program array.

    ``kind`` is its type (enum bpf_prog_type), ``hook`` what it expects to be attached to (enum
    bpf_attach_type), ``attach`` does what its ``SEC()`` says, if that says enough.
    """

    def __init__(
        self,
        name: str,
        kind: int,
        fd: int,
        hook: int = 0,
        attach: "Callable[[], Link] | None" = None,
    ) -> None:
        self.name, self.kind, self.fd, self.hook, self.attach = name, kind, fd, hook, attach

    def fileno(self) -> int:
        """The file descriptor of the loaded program."""
        return self.fd


class Link:
    """An attachment. It ends when it is closed, when its program is, or with the process."""

    def __init__(self, name: str, close: Callable[[], object]) -> None:
        self.name = name
        self._close: Callable[[], object] | None = close

    def close(self) -> None:
        """Detach. Closing twice is fine."""
        close, self._close = self._close, None
        if close:
            close()

    def __enter__(self) -> "Link":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return printable(f"{self.name}: {'attached' if self._close else 'detached'}")


def attach(function: Function, target: Any, frequency: int) -> Link:
    """Attach ``function`` where its ``SEC()`` says, or to ``target``: see ``Program.attach``."""
    if function.kind == XDP:
        return _attach_xdp(function, target)
    if function.kind in (SK_SKB, SK_MSG):
        return _attach_to_map(function, target)
    if function.kind == PERF_EVENT:
        return _attach_sampler(function, target, frequency)
    if function.attach:
        return function.attach()
    if function.kind in (TRACEPOINT, KPROBE):
        return _attach_probe(function, target)
    raise Unsupported(
        "a program that can be attached by itself", function.name, "Run it with prog.run()."
    )


def _attach_xdp(function: Function, target: Any) -> Link:
    inside: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
    if isinstance(target, str):
        try:
            index = socket.if_nametoindex(target)
        except OSError as error:
            check_exhausted(f"look for the interface {target}", error.errno or 0)
            raise NotFound(f"There is no network interface {target!r}.", errno.ENODEV) from None
    elif hasattr(target, "ifindex"):
        index, inside = target.ifindex, target.inside()
    else:
        raise LayoutError(
            f"{function.name} sees packets of one interface: say which.\n"
            "In a sandbox:  prog.attach(name, net.server)"
        )
    with inside:
        fd = lib().bpf_link_create(function.fd, index, _ON_XDP, None)
    if fd == -errno.EBUSY:
        raise BpfError(
            f"Another XDP program is attached to that interface (errno {describe(-fd)}).\n"
            "Close it, or detach its link, first.",
            -fd,
        )
    if fd < 0:
        refused(f"attach {function.name}", -fd)
    return Link(function.name, lambda: os.close(fd))


def _attach_to_map(function: Function, target: Any) -> Link:
    if not isinstance(target, BpfMap):
        raise LayoutError(
            f"{function.name} judges the sockets of one map: say which.\n"
            'For example:  prog.attach(name, prog["sockets"])'
        )
    hook = function.hook or (_MSG_VERDICT if function.kind == SK_MSG else _STREAM_VERDICT)
    # A descriptor of the link's own: the map may be closed before the link is.
    program, sockets = os.dup(function.fd), os.dup(target.fd)

    def detach() -> None:
        lib().bpf_prog_detach2(program, sockets, hook)
        os.close(program)
        os.close(sockets)

    error = lib().bpf_prog_attach(program, sockets, hook, 0)
    if error:
        os.close(program)
        os.close(sockets)
        refused(f"attach {function.name} to {target.name}", -error)
    return Link(function.name, detach)


def _attach_sampler(function: Function, target: Any, frequency: int) -> Link:
    if not isinstance(target, int):
        raise LayoutError(
            f"{function.name} samples one process: say which.\n"
            "Yours:  prog.attach(name, os.getpid())"
        )
    try:
        threads = [int(path.name) for path in Path(f"/proc/{target}/task").iterdir()]
    except OSError as error:
        check_exhausted(f"look at process {target}", error.errno or 0)
        raise NotFound(f"There is no process {target}.", errno.ESRCH) from None
    # PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CPU_CLOCK: it needs no counter of the CPU's own.
    return _perf_link(function, [(thread, -1) for thread in threads], 1, 0, frequency=frequency)


def _attach_probe(function: Function, target: Any) -> Link:
    if not isinstance(target, str):
        raise LayoutError(
            f"{function.name} needs a place: say which.\n"
            'A tracepoint:  prog.attach(name, "syscalls:sys_enter_getppid")\n'
            'A kernel function:  prog.attach(name, "tcp_connect")'
        )
    if function.kind == KPROBE:
        door = Path("/sys/bus/event_source/devices/kprobe/type")
        if not door.exists():
            raise no_hook(f"kprobe/{target}", errno.ENOENT)
        return _perf_link(function, [(-1, 0)], int(door.read_text()), 0, place=target.encode())
    place = TRACEFS.joinpath("events", *target.split(":"), "id")
    if not place.exists():
        raise no_hook(f"tracepoint/{target.replace(':', '/')}", errno.ENOENT)
    return _perf_link(function, [(-1, 0)], 2, int(place.read_text()))


def _perf_link(
    function: Function,
    where: list[tuple[int, int]],
    kind: int,
    config: int,
    *,
    frequency: int = 0,
    place: bytes = b"",
) -> Link:
    """Open a perf event for each (thread, CPU), and have it run the program."""
    name = ctypes.create_string_buffer(place)
    flags = 1 << 10 if frequency else 0  # freq
    attr = struct.pack(
        "<IIQQQQQIIQQ64x",
        kind, 128, config, frequency or 1, 0, 0, flags, 0, 0,
        ctypes.addressof(name) if place else 0, 0,
    )  # fmt: skip
    number = {"x86_64": 298, "aarch64": 241}[platform.machine()]  # perf_event_open(2)
    libc = ctypes.CDLL(None, use_errno=True)
    fds: list[int] = []

    def close() -> None:
        for fd in fds:
            os.close(fd)

    link = Link(function.name, close)
    for thread, cpu in where:
        fd = libc.syscall(number, attr, thread, cpu, -1, 8)  # PERF_FLAG_FD_CLOEXEC
        if fd >= 0:
            fds.append(fd)
        # PERF_EVENT_IOC_SET_BPF
        if fd < 0 or libc.ioctl(fd, ctypes.c_ulong(0x40042408), function.fd) < 0:
            error = ctypes.get_errno()
            link.close()
            if error in (errno.ENOENT, errno.EOPNOTSUPP, errno.EINVAL):
                raise no_hook(place.decode() or function.name, error)
            refused(f"attach {function.name}", error)
        libc.ioctl(fd, 0x2400, 0)  # PERF_EVENT_IOC_ENABLE
    return link


def no_hook(hook: str, number: int, said: str = "") -> Unsupported:
    """The error for a place that this kernel does not have."""
    check_exhausted(f"attach to {hook}", number)
    if not TRACEFS.joinpath("events").is_dir() and not hook.startswith("perf_event"):
        return Unsupported(
            f"tracefs, which knows the hook {hook}",
            f"none at {TRACEFS}",
            "./course install  mounts it.",
        )
    return Unsupported(
        f"a kernel with the hook {hook}",
        f"Linux {platform.release()}, which answers {describe(number)}{said}",
        f"See what it has with  ls {TRACEFS}/events  (and functions in /proc/kallsyms),\n"
        "or choose another Linux: ./course kernels  lists them.",
    )


def refused(what: str, number: int) -> NoReturn:
    """Raise the error for an errno that the kernel answered."""
    if number in (errno.EPERM, errno.EACCES):
        raise PermissionNeeded(what)
    if number in (errno.EOPNOTSUPP, 524):
        raise Unsupported(
            f"a kernel that can {what}",
            f"Linux {platform.release()}, which answers {describe(errno.EOPNOTSUPP)}",
            "Newer kernels may: ./course kernels  lists those that notebooks can run in.",
        )
    check_exhausted(what, number)
    raise BpfError(f"The kernel would not {what} (errno {describe(number)}).", number)
