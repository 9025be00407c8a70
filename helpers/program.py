"""``load()``: BPF C in either dialect, compiled, verified and in the kernel as a ``Program``."""

import ctypes
import errno
import os
import sys
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from helpers import kernel
from helpers.attach import Device, Function, Link, attach, refused
from helpers.btf import Layout, Types
from helpers.compiler import find
from helpers.diagnostics import printable
from helpers.dialects import load_bcc, load_libbpf
from helpers.errors import (
    Closed,
    LayoutError,
    NotFound,
    Unsupported,
    describe,
    exhaustion_told,
)
from helpers.events import Events
from helpers.libbpf import ProgInfo, TestRunOpts, lib
from helpers.maps import BpfMap

_WRONG_SIZE = {-errno.EINVAL, -errno.ENOMEM}
_PACKET_TYPES = {1, 3, 4, 6, 8}  # program types whose test run takes a packet


class Run(NamedTuple):
    """What one ``Program.run()`` gave: the return value, mean nanoseconds, the packet after it."""

    retval: int
    duration_ns: int
    data: bytes


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

    def _ipython_key_completions_(self) -> list[str]:
        return list(self.maps)  # what Tab offers behind prog["

    def function(self, name: str) -> Function:
        """One loaded program, such as a program array takes as its value.

        Raises:
            NotFound: no program of that name.
            Closed: the program was closed.
        """
        return self._function(name)

    @exhaustion_told("attach the program")
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
        link = attach(self._function(name), target, frequency)
        self._links.append(link)
        return link

    @exhaustion_told("open the buffer")
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
            refused(f"test-run {name}", -error)
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
        return printable(f"{self.name}{state}: programs {', '.join(self._functions)}; maps {maps}")


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


def _address(data: bytes) -> int | None:
    return ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value


@exhaustion_told("load the program")
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
            no map of that type with that size or those flags; the name is none for a file.
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
        loaded = load_libbpf(str(text), name, flags, maps or {})
    elif maps:
        raise Unsupported("libbpf's dialect", "BCC, which makes maps anew", "Leave out maps=.")
    else:
        loaded = load_bcc(str(text), name, flags)
    program = Program(name, dialect, *loaded)
    _close_on_rerun(program)
    return program


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
