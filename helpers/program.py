"""``load()``: BPF C in either dialect, compiled, verified and in the kernel as a ``Program``."""

import contextlib
import ctypes
import errno
import hashlib
import json
import os
import platform
import re
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, Protocol

from helpers import kernel, verifier
from helpers.btf import Layout, Types
from helpers.errors import (
    BpfError,
    Closed,
    CompileError,
    LayoutError,
    NotFound,
    PermissionNeeded,
    Unsupported,
    VerifierError,
    describe,
)
from helpers.events import Events
from helpers.libbpf import LOG_SIZE, ProgInfo, TestRunOpts, lib, messages
from helpers.maps import BpfMap

# enum bpf_prog_type and enum bpf_attach_type of <linux/bpf.h>, as far as they are named here
_KPROBE, _TRACEPOINT, _XDP, _PERF_EVENT, _SK_SKB, _SK_MSG = 2, 5, 6, 7, 14, 16
_STREAM_VERDICT, _MSG_VERDICT, _ON_XDP = 5, 7, 37
# BCC has no SEC(): what a function is attached to follows from its context argument.
_BCC_CONTEXTS = {
    "xdp_md": _XDP,
    "__sk_buff": 3,
    "pt_regs": _KPROBE,
    "bpf_perf_event_data": _PERF_EVENT,
    "sk_msg_md": _SK_MSG,
}
_WRONG_SIZE = {-errno.EINVAL, -errno.ENOMEM}
_PER_CPU_LIMIT = 32768  # bytes a value: PCPU_MIN_UNIT_SIZE of <linux/percpu.h>
_NO_PREALLOC, _NO_COMMON_LRU = 1 << 0, 1 << 1  # BPF_F_… of <linux/bpf.h>
_PACKET_TYPES = {1, 3, 4, 6, 8}  # program types whose test run takes a packet


class Run(NamedTuple):
    """What one ``Program.run()`` gave: the return value, mean nanoseconds, the packet after it."""

    retval: int
    duration_ns: int
    data: bytes


class Device(Protocol):
    """A network interface, perhaps in a namespace of its own."""

    ifindex: int

    def inside(self) -> contextlib.AbstractContextManager[Any]: ...


class Source(str):
    """C text that shows itself as a highlighted listing in JupyterLab."""

    def _repr_markdown_(self) -> str:
        return f"```c\n{self}\n```"

    def __repr__(self) -> str:
        return str(self)


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
        return f"{self.name}: {'attached' if self._close else 'detached'}"


class Program:
    """Loaded programs and their maps: ``prog["map"]``, ``prog.run("function")``.

    Closing it detaches its programs and closes its maps; so do leaving its ``with`` block,
    running its notebook cell again, and the end of the process.
    """

    def __init__(
        self,
        name: str,
        dialect: str,
        functions: dict[str, Function],
        maps: dict[str, BpfMap],
        free: Callable[[], object],
    ) -> None:
        self.name, self.dialect, self.maps = name, dialect, maps
        self._functions, self._links, self._streams = functions, list[Link](), list[Events]()
        self._end = weakref.finalize(self, _end, self._links, self._streams, maps, free)

    @property
    def programs(self) -> list[str]:
        """The names of the programs, as ``attach`` and ``run`` take them."""
        return list(self._functions)

    @property
    def kinds(self) -> dict[str, str]:
        """The type of each program, as bpftool writes it: "xdp", "tracepoint" and so on."""
        spell = lib().libbpf_bpf_prog_type_str
        return {name: spell(f.kind).decode() for name, f in self._functions.items()}

    def __getitem__(self, name: str) -> BpfMap:
        if name not in self.maps:
            raise NotFound(
                f"{self.name} has no map {name!r}.\nIts maps: {', '.join(self.maps) or 'none'}."
            )
        return self.maps[name]

    def __contains__(self, name: object) -> bool:
        return name in self.maps

    def function(self, name: str) -> Function:
        """One loaded program, such as a program array takes as its value.

        Raises:
            NotFound: no program of that name.
            Closed: the program was closed.
        """
        return self._function(name)

    def attach(
        self, name: str, target: "Device | BpfMap | str | int | None" = None, *, frequency: int = 99
    ) -> Link:
        """Attach a program, until the link or the program is closed.

        Where to is what its ``SEC()`` says, where that says enough. Else ``target`` does:

        - XDP: a network interface, by name, or of the sandbox, whose namespace is entered;
        - stream and message verdicts: the socket map whose sockets they judge;
        - perf events: the id of the process to sample, ``frequency`` times a second of its time;
        - tracepoints and kprobes in BCC's dialect: "category:event", or the kernel function.

        Raises:
            NotFound: no program or interface of that name.
            LayoutError: a target is missing.
            Unsupported: the kernel has no such hook.
            PermissionNeeded: not allowed to.
        """
        function = self._function(name)
        if function.kind == _XDP:
            link = _attach_xdp(function, target)
        elif function.kind in (_SK_SKB, _SK_MSG):
            link = _attach_to_map(function, target)
        elif function.kind == _PERF_EVENT:
            link = _attach_sampler(function, target, frequency)
        elif function.attach:
            link = function.attach()
        elif function.kind in (_TRACEPOINT, _KPROBE):
            link = _attach_probe(function, target)
        else:
            raise Unsupported(
                "a program that can be attached by itself", f"{name}", "Run it with prog.run()."
            )
        self._links.append(link)
        return link

    def events(
        self,
        name: str,
        *,
        record: str | Layout = "event",
        lost: str | None = "lost",
        pages: int = 8,
    ) -> Events:
        """Read the ring or perf buffer ``name``; it ends with the program.

        Records decode as ``struct event``, or the one that ``record`` names, when the program's
        type information has it, and are bytes otherwise. The compiler keeps a struct that a
        global points to: ``struct event *unused __attribute__((unused));``. BCC keeps none:
        give the layout itself, such as ``.layout`` of another reader.

        The kernel tells little of losses, so the program should count them: in a map named
        ``lost``, an array or per-CPU array whose entry 0 goes up when a reservation or an output
        fails. Say which map where each buffer has its own, and None to hear what the kernel tells
        by itself. ``pages`` is the size of each CPU's perf buffer, a power of two.

        Raises:
            NotFound: no map of that name.
            BpfError: it has a reader already (EBUSY).
            Unsupported: the map is no buffer.
        """
        source = self[name]
        counter = self.maps.get(lost or "")
        if lost not in (None, "lost"):
            counter = self[lost]
        ask = None if counter is None else lambda: _total(counter[0])
        layout = self._record(record) if isinstance(record, str) else record
        stream = Events(source, layout, ask, pages)
        self._streams.append(stream)
        return stream

    def _record(self, name: str) -> Layout | None:
        for function in self._functions.values():
            info = ProgInfo()
            size = ctypes.c_uint32(ctypes.sizeof(info))
            lib().bpf_obj_get_info_by_fd(function.fd, ctypes.byref(info), ctypes.byref(size))
            types = Types.of(info.btf_id)
            found = types.find(name) if types else None
            if found:
                return found
        return None

    def run(
        self, name: str, *, data: bytes | None = None, context: bytes = b"", repeat: int = 1
    ) -> Run:
        """Run a program once, or ``repeat`` times, with the packet ``data``; nothing is attached.

        ``data`` is 14 to 3,520 bytes (newer kernels take more), 64 zero bytes when it is not
        given; ``context`` is for programs that take another context than a packet. It runs on the
        calling thread's CPU, without the GIL.

        Raises:
            NotFound: no program of that name.
            LayoutError: the packet is shorter or longer than the kernel takes.
            Unsupported: the kernel does not test-run this type of program.

        Source: bpf(2), BPF_PROG_TEST_RUN; Documentation/bpf/bpf_prog_run.rst.
        """
        function = self._function(name)
        opts = TestRunOpts(ctypes.sizeof(TestRunOpts), repeat=repeat)
        out = b""
        if function.kind in _PACKET_TYPES:
            data = bytes(64) if data is None else bytes(data)
            room = ctypes.create_string_buffer(len(data) + 512)  # it may push headers
            opts.data_in, opts.data_size_in = _address(data), len(data)
            opts.data_out, opts.data_size_out = ctypes.addressof(room), len(room)
        elif context:
            opts.ctx_in, opts.ctx_size_in = _address(context), len(context)
        error = lib().bpf_prog_test_run_opts(function.fd, ctypes.byref(opts))
        if error in _WRONG_SIZE and data is not None and not 14 <= len(data) <= 3520:
            raise LayoutError(
                f"A packet of {len(data)} bytes cannot be run (errno {describe(-error)}).\n"
                "Every kernel takes 14 bytes, an Ethernet header, to 3,520, a page less headroom."
            )
        if error:
            _refused(f"test-run {name}", -error)
        if data is not None:
            out = room.raw[: opts.data_size_out]
        return Run(opts.retval, opts.duration, out)

    def _function(self, name: str) -> Function:
        if not self._end.alive:
            raise Closed(
                f"{self.name} is closed: its programs left the kernel.\n"
                "Load it again, or work inside the with block."
            )
        if name not in self._functions:
            raise NotFound(
                f"{self.name} has no program {name!r}.\n"
                f"Its programs: {', '.join(self._functions) or 'none'}."
            )
        return self._functions[name]

    def close(self) -> None:
        """Detach and unload. Closing twice is fine."""
        self._end()

    def __enter__(self) -> "Program":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "" if self._end.alive else " (closed)"
        maps = ", ".join(self.maps) or "none"
        return f"{self.name}{state}: programs {', '.join(self._functions)}; maps {maps}"


def _end(
    links: list[Link],
    streams: list[Events],
    maps: Mapping[str, BpfMap],
    free: Callable[[], object],
) -> None:
    for link in links:
        link.close()
    for stream in streams:
        stream.close()
    for bpf_map in maps.values():
        bpf_map.close()
    free()


def _total(value: Any) -> int:
    """A counter's value: the sum over the CPUs, or the one field of a struct."""
    return sum(map(_total, value)) if isinstance(value, list | tuple) else int(value)


# --- attaching ------------------------------------------------------------------------------


def _attach_xdp(function: Function, target: Any) -> Link:
    inside: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
    if isinstance(target, str):
        try:
            index = socket.if_nametoindex(target)
        except OSError:
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
        _refused(f"attach {function.name}", -fd)
    return Link(function.name, lambda: os.close(fd))


def _attach_to_map(function: Function, target: Any) -> Link:
    if not isinstance(target, BpfMap):
        raise LayoutError(
            f"{function.name} judges the sockets of one map: say which.\n"
            'For example:  prog.attach(name, prog["sockets"])'
        )
    hook = function.hook or (_MSG_VERDICT if function.kind == _SK_MSG else _STREAM_VERDICT)
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
        _refused(f"attach {function.name} to {target.name}", -error)
    return Link(function.name, detach)


def _attach_sampler(function: Function, target: Any, frequency: int) -> Link:
    if not isinstance(target, int):
        raise LayoutError(
            f"{function.name} samples one process: say which.\n"
            "Yours:  prog.attach(name, os.getpid())"
        )
    try:
        threads = [int(path.name) for path in Path(f"/proc/{target}/task").iterdir()]
    except OSError:
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
    if function.kind == _KPROBE:
        door = Path("/sys/bus/event_source/devices/kprobe/type")
        if not door.exists():
            raise _no_hook(f"kprobe/{target}", errno.ENOENT)
        return _perf_link(function, [(-1, 0)], int(door.read_text()), 0, place=target.encode())
    place = Path("/sys/kernel/tracing/events", *target.split(":"), "id")
    if not place.exists():
        raise _no_hook(f"tracepoint/{target.replace(':', '/')}", errno.ENOENT)
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
                raise _no_hook(place.decode() or function.name, error)
            _refused(f"attach {function.name}", error)
        libc.ioctl(fd, 0x2400, 0)  # PERF_EVENT_IOC_ENABLE
    return link


def _no_hook(hook: str, number: int, said: str = "") -> Unsupported:
    return Unsupported(
        f"a kernel with the hook {hook}",
        f"Linux {platform.release()}, which answers {describe(number)}{said}",
        "See what this kernel has with: ./course doctor",
    )


def _address(data: bytes) -> int | None:
    return ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value


def _refused(what: str, number: int) -> NoReturn:
    if number in (errno.EPERM, errno.EACCES):
        raise PermissionNeeded(what)
    if number in (errno.EOPNOTSUPP, 524):
        raise Unsupported(
            f"a kernel that can {what}",
            f"Linux {platform.release()}, which answers {describe(errno.EOPNOTSUPP)}",
            "See which kernels can with: ./course doctor",
        )
    raise BpfError(f"The kernel would not {what} (errno {describe(number)}).", number)


# --- loading --------------------------------------------------------------------------------


def load(
    path: str | os.PathLike[str] | None = None,
    *,
    text: str | None = None,
    dialect: str | None = None,
    name: str | None = None,
    defines: Mapping[str, int] | None = None,
    flags: Iterable[str] = (),
    maps: Mapping[str, BpfMap] | None = None,
) -> Program:
    """Compile BPF C, pass it through the verifier, and load it into this kernel.

    ``path`` is looked up here, then in the course's ``bpf`` folder; ``topic.bpf.c`` is in libbpf's
    dialect, ``topic.bcc.c`` in BCC's. ``text`` is C itself, in ``dialect`` ("libbpf", unless you
    say "bcc"), under ``name`` in messages. ``defines`` become C macros; ``flags`` go to clang as
    they are. ``#include "…"`` looks beside the file, then in the course's ``bpf`` folder. ``maps``,
    by the names that the C gives them, are used instead of new ones, with the data they hold.

    Cost: a libbpf object is compiled once and kept, 0.1 to 0.4 s; BCC compiles each time.

    Raises:
        NotFound: no such file, or no map of that name in it.
        LayoutError: a map to be used again differs from what the C declares, or the kernel makes
            no map of that type with that size or those flags.
        CompileError: clang refused it.
        VerifierError: the kernel refused it.
        Unsupported: the machine lacks clang, BCC, headers or a map type.
        PermissionNeeded: no right to use BPF.
    """
    if (path is None) == (text is None):
        raise LayoutError("load() takes one of a path or text=.")
    if path is not None:
        file = find(path)
        text, name = file.read_text(), file.name
        dialect = "bcc" if name.endswith(".bcc.c") else "libbpf"
    if dialect not in (None, "libbpf", "bcc"):
        raise LayoutError(f'dialect is "libbpf" or "bcc", not {dialect!r}.')
    dialect = dialect or "libbpf"
    name = name or ("cell.bcc.c" if dialect == "bcc" else "cell.bpf.c")
    folders = [kernel.ROOT / "bpf"] if path is None else [file.parent, kernel.ROOT / "bpf"]
    given = [f"-D{key}={value}" for key, value in sorted((defines or {}).items())]
    flags = [*(f"-I{folder}" for folder in folders), *given, *flags]
    if dialect == "libbpf":
        program = _load_libbpf(str(text), name, flags, maps or {})
    elif maps:
        raise Unsupported("libbpf's dialect", "BCC, which makes maps anew", "Leave out maps=.")
    else:
        program = _load_bcc(str(text), name, flags)
    _close_on_rerun(program)
    return program


def find(path: str | os.PathLike[str]) -> Path:
    """The C file that ``load(path)`` would read.

    Raises:
        NotFound: it is neither here nor in the course's ``bpf`` folder.
    """
    folder = kernel.ROOT / "bpf"
    for candidate in (Path(path), folder / path):
        if candidate.is_file():
            return candidate.resolve()
    there = sorted(p.name for p in folder.glob("*.c"))
    raise NotFound(
        f"There is no file {str(path)!r}.\nThe course has: {', '.join(there)}.", errno.ENOENT
    )


def source(path: str | os.PathLike[str], part: str | None = None) -> Source:
    """The C file that ``load(path)`` would load, or one declaration of it, to read in a cell.

    ``part`` is the name that the declaration gives: of a struct, a map or a function.

    Raises:
        NotFound: no such file, or nothing in it of that name.
    """
    text = find(path).read_text()
    if part is None:
        return Source(text.strip())
    # A declaration starts at the left margin and ends at the next blank line after it closes.
    blocks = re.split(r"\n\n(?=\S)", text)
    declares = rf"^(?:[^\s/*].*|}} )?\b{re.escape(part)}\b\s*(?:SEC|\(|\{{|\)|,|$)"
    for block in blocks:
        if re.search(declares, block, re.MULTILINE):
            return Source(block.strip())
    raise NotFound(f"{path} declares no {part!r}.")


def _load_libbpf(text: str, name: str, flags: list[str], given: Mapping[str, BpfMap]) -> Program:
    path = compile_object(text, name, flags)
    so = lib()
    with messages() as said:
        obj = so.bpf_object__open_file(os.fsencode(path), None)
        if not obj:
            number = ctypes.get_errno()
            unknown = re.search(r"failed to find BTF for extern '(\w+)'", "\n".join(said))
            if unknown:
                raise NotFound(
                    f"{name} calls {unknown[1]}(), and nothing of that name can be linked.\n"
                    "A BPF program has no C library. It may call helpers, see bpf-helpers(7), and "
                    "functions of its own.",
                    number,
                )
            raise BpfError(f"{name} is no BPF object (errno {describe(number)}).\n{_tail(said)}")
        try:
            _reuse(obj, name, given)
        except BaseException:
            so.bpf_object__close(obj)
            raise
        logs = {}
        for function in _each(so.bpf_object__next_program, obj):
            log = (ctypes.c_char * LOG_SIZE)()  # untouched pages cost nothing
            so.bpf_program__set_log_buf(function, log, LOG_SIZE)
            logs[so.bpf_program__name(function).decode()] = log
        error = so.bpf_object__load(obj)
    if error:
        try:
            _load_failed(obj, -error, text, name, logs, said)
        finally:
            so.bpf_object__close(obj)
    maps = {}
    for one in _each(so.bpf_object__next_map, obj):
        full = so.bpf_map__name(one).decode()
        short = full[full.rindex(".") :] if "." in full else full  # hash_bpf.rodata is .rodata
        fd = os.dup(so.bpf_map__fd(one))
        maps[short] = BpfMap(fd, name=short, place=_place(text, name, short))
    functions = {}
    for one in _each(so.bpf_object__next_program, obj):
        title = so.bpf_program__name(one).decode()
        kind, fd = so.bpf_program__type(one), so.bpf_program__fd(one)
        hook = so.bpf_program__expected_attach_type(one)
        functions[title] = Function(title, kind, fd, hook, _attacher(one, title))
    return Program(name, "libbpf", functions, maps, lambda: so.bpf_object__close(obj))


def _reuse(obj: int, name: str, given: Mapping[str, BpfMap]) -> None:
    """Have the object use maps that exist, if they are what it declares."""
    so = lib()
    declared = {so.bpf_map__name(m).decode(): m for m in _each(so.bpf_object__next_map, obj)}
    for title, old in given.items():
        if title not in declared:
            raise NotFound(f"{name} declares no map {title!r}, but {', '.join(declared)}.")
        new = declared[title]
        types = Types.at(so.bpf_object__btf(obj))
        numbers = {
            "type": (kernel.MAP_TYPES[so.bpf_map__type(new)], old.type),
            "max_entries": (so.bpf_map__max_entries(new), old.max_entries),
        }
        layouts = {
            "key": (so.bpf_map__btf_key_type_id(new), old.key),
            "value": (so.bpf_map__btf_value_type_id(new), old.value),
        }
        for what, (wanted, found) in numbers.items():
            if wanted != found:
                raise _unlike(title, what, found, name, wanted)
        for what, (number, layout) in layouts.items():
            if number and not (declares := types.layout(number)).matches(layout):
                raise _unlike(title, what, layout.shape, name, declares.shape)
        so.bpf_map__reuse_fd(new, old.fd)


def _unlike(title: str, what: str, found: object, name: str, wanted: object) -> LayoutError:
    return LayoutError(
        f"{title} cannot be used again: its {what} is {found}, and {name} declares {wanted}.\n"
        "Declare it as it is, or unpin the old map and begin a new one."
    )


def _each(step: Callable[[int, int | None], int], obj: int) -> Iterator[int]:
    item = step(obj, None)
    while item:
        yield item
        item = step(obj, item)


def _attacher(function: int, name: str) -> Callable[[], Link]:
    def attach() -> Link:
        with messages() as said:
            link = lib().bpf_program__attach(function)
        if not link:
            number = ctypes.get_errno()
            section = lib().bpf_program__section_name(function).decode()
            if number in (errno.EPERM, errno.EACCES):
                raise PermissionNeeded(f"attach {name} to {section}")
            raise _no_hook(section, number, f". {_tail(said)}")
        return Link(name, lambda: lib().bpf_link__destroy(link))

    return attach


def _load_failed(
    obj: int, number: int, text: str, name: str, logs: Mapping[str, Any], said: list[str]
) -> NoReturn:
    for title, log in logs.items():
        if log.value:
            full = log.value.decode(errors="replace")
            _check_tail_calls(obj, number, title, full, name)
            raise VerifierError(verifier.explain(full, text, name), full, number)
    if number in (errno.EPERM, errno.EACCES):
        raise PermissionNeeded(f"load {name} into the kernel")
    if number == errno.ENOSYS:
        raise kernel.no_bpf()
    for one in _each(lib().bpf_object__next_program, obj):
        if not lib().bpf_program__type(one):
            section = lib().bpf_program__section_name(one).decode()
            raise LayoutError(
                f"{name}: the kernel cannot tell what type of program "
                f"{lib().bpf_program__name(one).decode()} is from its section, {section}.\n"
                'Name a type above the function, as in  SEC("xdp")'
            )
    for one in _each(lib().bpf_object__next_map, obj):
        kind = lib().bpf_map__type(one)
        title = kernel.MAP_TYPES[kind] if kind < len(kernel.MAP_TYPES) else f"number {kind}"
        if kind >= len(kernel.MAP_TYPES) or not kernel.has_map_type(title):
            raise Unsupported(
                f"a kernel with the map type {title}",
                f"Linux {platform.release()}, which does not make one",
                "Chapter 01 lists which map types this kernel has, and since which version.",
            )
    _check_maps(obj, number, text, name, said)
    raise BpfError(f"{name} was not loaded (errno {describe(number)}).\n{_tail(said)}", number)


def _check_maps(obj: int, number: int, text: str, name: str, said: list[str]) -> None:
    """Was a map refused for a size or a flag that its type does not take?"""
    so = lib()
    refused = re.search(r"map '([^']+)': failed to create", "\n".join(said))
    for one in _each(so.bpf_object__next_map, obj):
        title = so.bpf_map__name(one).decode()
        if not refused or title != refused[1]:
            continue
        kind, flags = kernel.MAP_TYPES[so.bpf_map__type(one)], so.bpf_map__map_flags(one)
        lru, why = kind.startswith("lru_"), ""
        if "percpu" in kind and so.bpf_map__value_size(one) > _PER_CPU_LIMIT:
            why = (
                f"A copy for one CPU has at most {_PER_CPU_LIMIT:,} bytes, and this value has "
                f"{so.bpf_map__value_size(one):,}.\nCut the value up, or use a map without copies."
            )
        elif not so.bpf_map__max_entries(one) and "storage" not in kind:
            why = "It has no room for a single entry.\nGive it a max_entries above 0."
        elif lru and flags & _NO_PREALLOC:
            why = "It takes all its memory at once.\nLeave BPF_F_NO_PREALLOC out of map_flags."
        elif not lru and flags & _NO_COMMON_LRU:
            why = (
                "BPF_F_NO_COMMON_LRU is for maps that evict.\n"
                "Leave it out of map_flags, or use an LRU hash: see chapter 05."
            )
        elif kind == "stack_trace" and so.bpf_map__value_size(one) > 8 * (deepest := _deepest()):
            why = (
                f"A stack has at most {deepest} frames of 8 bytes here, and this value has room "
                f"for {so.bpf_map__value_size(one) // 8}.\n"
                "Make it smaller, or raise /proc/sys/kernel/perf_event_max_stack."
            )
        if why:
            where = f" in {place}" if (place := _place(text, name, title)) else ""
            raise LayoutError(
                f"The kernel makes no such {kind.replace('_', ' ')} map as {title}{where} "
                f"(errno {describe(number)}).\n{why}",
                number,
            )


def _deepest() -> int:
    """The frames of a stack that this kernel takes down, as an administrator set it."""
    return int(Path("/proc/sys/kernel/perf_event_max_stack").read_text())


def _check_tail_calls(obj: int, number: int, title: str, log: str, name: str) -> None:
    """Was the program refused, after the verifier passed it, for what its program array holds?"""
    so, types = lib(), kernel.MAP_TYPES
    arrays = [
        so.bpf_map__name(m).decode()
        for m in _each(so.bpf_object__next_map, obj)
        if so.bpf_map__type(m) == types.index("prog_array")
    ]
    kinds = {
        so.bpf_program__name(p).decode(): so.libbpf_bpf_prog_type_str(so.bpf_program__type(p))
        for p in _each(so.bpf_object__next_program, obj)
    }
    # The kernel compares types last: the log ends well, and says nothing of it.
    if number == errno.EINVAL and arrays and re.match(r"processed \d+ insns", log):
        raise LayoutError(
            f"{name}: the kernel would not load {title}, of the type {kinds[title].decode()}, "
            f"whose C is right (errno {describe(number)}).\nA program array serves programs of one "
            f"type: does {title} share {' or '.join(arrays)} with another type? Give each its own.",
            number,
        )


def _tail(said: list[str]) -> str:
    return "\n".join(line.removeprefix("libbpf: ") for line in said[-3:])


def _place(text: str, name: str, map_name: str) -> str:
    """Where the C says how large a map is, as ``file:line``; empty when it cannot be told."""
    size = None
    for number, line in enumerate(text.splitlines(), 1):
        if re.match(r"\s*__uint\(max_entries\b", line):
            size = number
        if re.search(rf"\b{re.escape(map_name)}\s+SEC\(\"\.maps\"\)", line):
            return f"{name}:{size or number}"
        if re.match(rf"\s*BPF_\w+\(.*\b{re.escape(map_name)}\b", line):
            return f"{name}:{number}"
    return ""


# --- compiling ------------------------------------------------------------------------------


def compile_object(text: str, name: str, flags: list[str]) -> Path:
    """The object file for a libbpf-dialect text, as ``compiled()`` keeps it."""
    machine = platform.machine()
    flags = [
        "-c", "-g", "-O2", "-target", "bpf", "-mcpu=v3",
        f"-D__TARGET_ARCH_{'arm64' if machine == 'aarch64' else 'x86'}",
        "-idirafter", f"/usr/include/{machine}-linux-gnu", *flags,
    ]  # fmt: skip
    if "vmlinux.h" in text:
        flags.append(f"-I{kernel.vmlinux_header()}")
    return compiled(text, name, flags, f"{name.removesuffix('.c')}.o")


def compiled(
    text: str, name: str, flags: list[str], product: str, libraries: Sequence[str] = ()
) -> Path:
    """What clang makes of a C text; it runs only if the text or a header of it changed.

    Raises:
        CompileError: clang, or the linker that it calls, refused it.
        Unsupported: there is no clang.
    """
    clang = kernel.clang()
    stat = os.stat(clang)
    seed = [text, name, flags, *libraries, clang, stat.st_mtime_ns, stat.st_size]
    key = hashlib.sha256(json.dumps(seed).encode()).hexdigest()[:32]
    cache = kernel.cache_dir("objects")
    made, needs = cache / key / product, cache / key / "needs.json"
    if _fresh(made, needs):
        return made
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        work = Path(folder)
        (work / name).write_text(text)
        command = [clang, *flags, "-MD", "-MF", "needs", name, "-o", product, *libraries]
        done = subprocess.run(command, cwd=work, capture_output=True, text=True, errors="replace")
        if done.returncode:
            _compile_failed(name, done.stderr)
        paths = (work / "needs").read_text().replace("\\\n", " ").split()[2:]
        found = {path: _stamp(path) for path in paths if path != name}
        (cache / key).mkdir(mode=0o700, exist_ok=True)
        os.replace(work / product, made)
        kernel.write_atomically(needs, json.dumps(found).encode())
    return made


def _fresh(made: Path, needs: Path) -> bool:
    try:
        recorded = json.loads(needs.read_bytes())
        return made.exists() and all(_stamp(path) == seen for path, seen in recorded.items())
    except (OSError, ValueError):
        return False


def _stamp(path: str) -> list[int]:
    stat = os.stat(path)
    return [stat.st_mtime_ns, stat.st_size]


_COMPLAINT = "error:|undefined reference|cannot find -l"  # of the compiler, or of the linker


def _compile_failed(name: str, said: str) -> NoReturn:
    lines = said.strip().splitlines()
    first = next((i for i, line in enumerate(lines) if re.search(_COMPLAINT, line)), 0)
    shown = "\n".join(lines[first : first + 3])
    count = sum("error:" in line for line in lines)
    others = "is 1 more error" if count == 2 else f"are {count - 1} more errors"
    more = f"\nThere {others}; mend this one first." if count > 1 else ""
    raise CompileError(f"{name} does not compile. clang says:\n{shown}{more}", said)


# --- BCC ------------------------------------------------------------------------------------


def _load_bcc(text: str, name: str, flags: list[str]) -> Program:
    bcc = kernel.import_bcc()
    _survives_bcc(text, name, flags, bcc.__version__)
    native = bcc.lib
    # BCC's own binding leaves these two untyped.
    native.bpf_num_tables.argtypes = [ctypes.c_void_p]
    native.bpf_table_name.argtypes = [ctypes.c_void_p, ctypes.c_ulonglong]
    native.bpf_table_name.restype = ctypes.c_char_p
    before = _map_fds()
    with _stderr() as said:
        try:
            module = bcc.BPF(text=text.encode(), cflags=["-w", *flags])
        except Exception as error:  # BCC raises nothing finer
            for fd in _map_fds() - before:  # it leaves the maps that it made before it failed
                os.close(fd)
            _bcc_failed(text, name, str(error), said(), CompileError)
    functions = {}
    for i in range(native.bpf_num_functions(module.module)):
        title = native.bpf_function_name(module.module, i).decode()
        kind = _bcc_kind(text, title)
        with _stderr() as said:
            try:
                loaded = module.load_func(title.encode(), kind)
            except Exception as error:
                kernel.free_bcc(module)
                _bcc_failed(text, name, str(error), said(), VerifierError)
        functions[title] = Function(title, kind, loaded.fd)
    maps = {}
    for i in range(native.bpf_num_tables(module.module)):
        title = native.bpf_table_name(module.module, i).decode()
        fd = os.dup(native.bpf_table_fd(module.module, title.encode()))
        maps[title] = BpfMap(fd, name=title, place=_place(text, name, title))
    return Program(name, "bcc", functions, maps, lambda: kernel.free_bcc(module))


def _map_fds() -> set[int]:
    """The descriptors of this process that are BPF maps."""
    found = set()
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # it was closed meanwhile
            if os.readlink(path) == "anon_inode:bpf-map":
                found.add(int(path.name))
    return found


_TRIAL = """
import sys
import bcc
try:
    bcc.BPF(text=sys.stdin.buffer.read(), cflags=sys.argv[1:])
except Exception:
    pass  # the second time, in our process, it says why
print("survived")
"""


def _survives_bcc(text: str, name: str, flags: list[str], version: str) -> None:
    """Compile a text that is new to us in a process of its own.

    Where clang's back end refuses (too much stack, say), BCC's library ends the process that it
    is in. What compiled once is not tried again.
    """
    key = hashlib.sha256(json.dumps([text, flags, version, platform.release()]).encode())
    mark = kernel.cache_dir("bcc") / key.hexdigest()[:32]
    if mark.exists():
        return
    command = [sys.executable, "-c", _TRIAL, "-w", *flags]
    done = subprocess.run(command, input=text.encode(), capture_output=True)
    if b"survived" in done.stdout:
        mark.touch()
        return
    said = done.stderr.decode(errors="replace").replace("/virtual/main.c", name)
    # Its line numbers are those of BCC's rewritten copy: the function's name is what helps.
    found = re.search(r"in function (\w+)[^:]*: (.+)", said)
    if found:
        said = f"error: in function {found[1]}: {found[2]}"
    _compile_failed(name, said or f"error: BCC ended with status {done.returncode}")


def _bcc_kind(text: str, function: str) -> int:
    match = re.search(rf"\b{re.escape(function)}\s*\(\s*(?:const\s+)?struct\s+(\w+)", text)
    # A socket's verdict has the context of a packet filter, and helpers that only it may call.
    if match and re.search(r"\bsk_redirect_\w+\(", text[match.end() :].partition("\n}")[0]):
        return _SK_SKB
    return _BCC_CONTEXTS.get(match[1] if match else "", 5)  # else BPF_PROG_TYPE_TRACEPOINT


def _bcc_failed(
    text: str, name: str, error: str, said: str, kind: type[CompileError] | type[VerifierError]
) -> NoReturn:
    said = said.replace("/virtual/main.c", name)
    if os.geteuid() and ("super-user" in error or "Operation not permitted" in error + said):
        raise PermissionNeeded(f"load {name} into the kernel")
    refused = re.search(r"could not open bpf map: (\w+), error: (.+)", said + error)
    if refused:
        number = next((n for n in errno.errorcode if os.strerror(n) == refused[2].strip()), 0)
        raise BpfError(
            f"The kernel would not make the map {refused[1]} of {name} "
            f"(errno {describe(number)}).\n"
            "A ring buffer takes a power of two of pages, and other maps at least one entry.",
            number,
        )
    if kind is CompileError:
        _compile_failed(name, said or error)
    raise VerifierError(verifier.explain(said, text, name), said)


_stderr_lock = threading.Lock()


@contextlib.contextmanager
def _stderr() -> Iterator[Callable[[], str]]:
    """Catch what BCC's C++ writes to file descriptor 2; gives a function that returns it."""
    with _stderr_lock, tempfile.TemporaryFile() as file:
        sys.stderr.flush()
        saved = os.dup(2)
        os.dup2(file.fileno(), 2)

        def text() -> str:
            file.seek(0)
            return file.read().decode(errors="replace")

        try:
            yield text
        finally:
            os.dup2(saved, 2)
            os.close(saved)


# --- notebooks ------------------------------------------------------------------------------

_by_cell: dict[str, list[weakref.ref[Program]]] = {}


def _close_on_rerun(program: Program) -> None:
    """A notebook cell that is run again closes what it loaded before: it is replaced."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    parent: dict[str, Any] = getattr(shell, "get_parent", dict)() or {}
    cell = parent.get("metadata", {}).get("cellId")
    if not cell:
        return
    run = parent.get("header", {}).get("msg_id", "")
    for key in [k for k in _by_cell if k.startswith(cell) and k != cell + run]:
        for old in _by_cell.pop(key):
            if (one := old()) is not None:
                one.close()
    _by_cell.setdefault(cell + run, []).append(weakref.ref(program))
