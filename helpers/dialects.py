"""The two dialects of BPF C: how a text becomes loaded functions and maps, or an explanation."""

import contextlib
import ctypes
import errno
import functools
import hashlib
import json
import mmap
import os
import platform
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from helpers import attach, kernel, lineinfo, verifier
from helpers.attach import Function, Link
from helpers.btf import Types
from helpers.compiler import compile_failed, compile_object
from helpers.diagnostics import Diagnostic, Mark, expression
from helpers.errors import (
    BpfError,
    LayoutError,
    NotFound,
    PermissionNeeded,
    Unsupported,
    VerifierError,
    check_exhausted,
    check_said,
    describe,
)
from helpers.libbpf import LOG_SIZE, lib, messages
from helpers.maps import BpfMap

# BCC has no SEC(): what a function is attached to follows from its context argument.
_BCC_CONTEXTS = {
    "xdp_md": attach.XDP,
    "__sk_buff": 3,
    "pt_regs": attach.KPROBE,
    "bpf_perf_event_data": attach.PERF_EVENT,
    "sk_msg_md": attach.SK_MSG,
}
# A call of what is not there would be no error: BCC leaves out all code from there on.
_WARNINGS = ["-Wno-everything", "-Werror=implicit-function-declaration"]
_PER_CPU_LIMIT = 32768  # bytes a value: PCPU_MIN_UNIT_SIZE of <linux/percpu.h>
_STATISTICS = 4  # BPF_LOG_STATS of <linux/bpf_verifier.h>: the verdict, without the way to it
_NO_PREALLOC, _NO_COMMON_LRU = 1 << 0, 1 << 1  # BPF_F_… of <linux/bpf.h>


class Loaded(NamedTuple):
    """What is in the kernel now, and how to let go of it."""

    functions: dict[str, Function]
    maps: dict[str, BpfMap]
    free: Callable[[], object]


# --- libbpf ---------------------------------------------------------------------------------


def load_libbpf(text: str, name: str, flags: list[str], given: Mapping[str, BpfMap]) -> Loaded:
    """Load a text in libbpf's dialect; ``given`` maps are used instead of new ones."""
    path = compile_object(text, name, flags)
    so = lib()
    with contextlib.ExitStack() as made:
        with messages() as said:
            obj = _open(path, text, name, given, said)
            made.callback(so.bpf_object__close, obj)
            logs = _keep_logs(obj)
            error = so.bpf_object__load(obj)
        if error:
            if error == -errno.ENOSPC:
                error, logs = _verdict_alone(path, name, given, logs) or (error, logs)
            _load_failed(obj, -error, text, name, path, logs, said)
        maps = dict[str, BpfMap]()
        for one in _each(so.bpf_object__next_map, obj):
            full = _text(so.bpf_map__name(one))
            short = full[full.rindex(".") :] if "." in full else full  # hash_bpf.rodata is .rodata
            maps[short] = made.enter_context(_map(so.bpf_map__fd(one), short, text, name))
        return Loaded(_loaded_functions(obj), maps, made.pop_all().close)


def _map(fd: int, title: str, text: str, name: str) -> BpfMap:
    """A map of what was loaded, which keeps the descriptor ``fd`` for itself."""
    return BpfMap(os.dup(fd), name=title, place=functools.partial(_place, text, name, title))


def _loaded_functions(obj: int) -> dict[str, Function]:
    so, functions = lib(), {}
    for one in _each(so.bpf_object__next_program, obj):
        title = _text(so.bpf_program__name(one))
        kind, fd = so.bpf_program__type(one), so.bpf_program__fd(one)
        hook = so.bpf_program__expected_attach_type(one)
        functions[title] = Function(title, kind, fd, hook, _attacher(one, title))
    return functions


def _not_linked(unknown: re.Match[str], text: str, name: str, number: int) -> NotFound:
    """The error for a call of a function that is neither a helper nor in the text."""
    here = None
    for at, line in enumerate(text.splitlines(), 1):
        if call := re.search(rf"\b{unknown[1]}\s*\(", line):
            here = Mark(name, at, line, *expression(line, call.start()))
    error = NotFound("", number)
    error.diagnostic = Diagnostic(
        f"{name} calls {unknown[1]}(), and nothing of that name can be linked",
        name,
        here,
        help="A BPF program has no C library. It may call helpers, see bpf-helpers(7), and "
        "functions of its own.",
        said=unknown[0],
        who="libbpf",
        rule="not-linked",
    )
    error.message = str(error.diagnostic)
    return error


def _open(path: Path, text: str, name: str, given: Mapping[str, BpfMap], said: list[str]) -> int:
    """Open an object, for the caller to close; ``said`` is where libbpf's messages go."""
    so = lib()
    obj: int = so.bpf_object__open_file(os.fsencode(path), None)
    if not obj:
        number = ctypes.get_errno()
        unknown = re.search(r"failed to find BTF for extern '(\w+)'", "\n".join(said))
        if unknown:
            raise _not_linked(unknown, text, name, number)
        check_exhausted(f"open the object of {name}", number)
        raise BpfError(f"{name} is no BPF object (errno {describe(number)}).\n{_tail(said)}")
    try:
        _reuse(obj, name, given)
    except BaseException:
        so.bpf_object__close(obj)
        raise
    return obj


def _keep_logs(obj: int, level: int = 0) -> dict[str, Any]:
    """Have the verifier's log of each program kept: the buffers, by the programs' names."""
    logs = {}
    for function in _each(lib().bpf_object__next_program, obj):
        # Its pages are zero, and cost nothing untouched; malloc() would have to clear them.
        log = (ctypes.c_char * LOG_SIZE).from_buffer(mmap.mmap(-1, LOG_SIZE))
        lib().bpf_program__set_log_buf(function, log, LOG_SIZE)
        if level:
            lib().bpf_program__set_log_level(function, level)
        logs[_text(lib().bpf_program__name(function))] = log
    return logs


def _verdict_alone(
    path: Path, name: str, given: Mapping[str, BpfMap], logs: Mapping[str, Any]
) -> tuple[int, dict[str, Any]] | None:
    """What a log that ran over does not say: the error and the verdict, behind that log's end.

    The kernel says ENOSPC then, whatever it was, and before 6.4 drops the end, where the verdict
    is. None if it is not the log that had no space.
    """
    with messages() as said, contextlib.ExitStack() as made:
        obj = _open(path, "", name, given, said)
        made.callback(lib().bpf_object__close, obj)
        again = _keep_logs(obj, _STATISTICS)
        error = lib().bpf_object__load(obj)
    if not error:
        return None
    whole = dict(logs)
    for title, log in again.items():
        if log.value and logs[title].value:
            walked = logs[title].value
            if b"\nprocessed " not in walked:
                full = verifier.FULL.encode()
                walked = b"\n".join([walked.rpartition(b"\n")[0], full, log.value])
            whole[title] = ctypes.create_string_buffer(walked)
    return error, whole


def _reuse(obj: int, name: str, given: Mapping[str, BpfMap]) -> None:
    """Have the object use maps that exist, if they are what it declares."""
    so = lib()
    declared = {_text(so.bpf_map__name(m)): m for m in _each(so.bpf_object__next_map, obj)}
    for title, old in given.items():
        if title not in declared:
            raise NotFound(f"{name} declares no map {title!r}, but {', '.join(declared)}.")
        new = declared[title]
        types = Types.at(so.bpf_object__btf(obj))
        numbers = {
            "type": (kernel.map_type(so.bpf_map__type(new)), old.type),
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


def _text(name: bytes) -> str:
    """A name or a section of the C, which may be made of any bytes."""
    return name.decode(errors="replace")


def _each(step: Callable[[int, int | None], int], obj: int) -> Iterator[int]:
    item = step(obj, None)
    while item:
        yield item
        item = step(obj, item)


def _attacher(function: int, name: str) -> Callable[[], Link]:
    def to_its_section() -> Link:
        with messages() as said:
            link = lib().bpf_program__attach(function)
        if not link:
            number = ctypes.get_errno()
            section = _text(lib().bpf_program__section_name(function))
            if number in (errno.EPERM, errno.EACCES):
                raise PermissionNeeded(f"attach {name} to {section}")
            raise attach.no_hook(section, number, f". {_tail(said)}")
        return Link(name, lambda: lib().bpf_link__destroy(link))

    return to_its_section


def _load_failed(
    obj: int,
    number: int,
    text: str,
    name: str,
    path: Path,
    logs: Mapping[str, Any],
    said: list[str],
) -> NoReturn:
    check_exhausted(f"load {name} into the kernel", number)
    for title, log in logs.items():
        if log.value:
            full = log.value.decode(errors="replace")
            _check_tail_calls(obj, number, title, full, name)
            found = verifier.explain(full, text, name, lineinfo.of_object(path), title)
            raise VerifierError(found, title, number)
    if number in (errno.EPERM, errno.EACCES):
        raise PermissionNeeded(f"load {name} into the kernel")
    if number == errno.ENOSYS:
        raise kernel.no_bpf()
    for one in _each(lib().bpf_object__next_program, obj):
        if not lib().bpf_program__type(one):
            section = _text(lib().bpf_program__section_name(one))
            raise LayoutError(
                f"{name}: the kernel cannot tell what type of program "
                f"{_text(lib().bpf_program__name(one))} is from its section, {section}.\n"
                'Name a type above the function, as in  SEC("xdp")'
            )
    for one in _each(lib().bpf_object__next_map, obj):
        title = kernel.map_type(lib().bpf_map__type(one))
        if title not in kernel.MAP_TYPES or not kernel.has_map_type(title):
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
        title = _text(so.bpf_map__name(one))
        if not refused or title != refused[1]:
            continue
        kind, flags = kernel.map_type(so.bpf_map__type(one)), so.bpf_map__map_flags(one)
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
        elif "array" in kind and so.bpf_map__key_size(one) != 4:
            why = (
                f"Its key is an index, a __u32 of 4 bytes, and this one has "
                f"{so.bpf_map__key_size(one)} bytes.\nUse a hash for keys of another kind."
            )
        where = f" in {place}" if (place := _place(text, name, title)) else ""
        raise LayoutError(
            f"The kernel makes no such {kind.replace('_', ' ')} map as {title}{where} "
            f"(errno {describe(number)}).\n"
            + (
                why
                or f"Declared are keys of {so.bpf_map__key_size(one):,} bytes, values of "
                f"{so.bpf_map__value_size(one):,}, max_entries {so.bpf_map__max_entries(one):,} "
                f"and map_flags {flags:#x}.\nLook at each: which does this type not take?"
            ),
            number,
        )


def _deepest() -> int:
    """The frames of a stack that this kernel takes down, as an administrator set it."""
    return int(Path("/proc/sys/kernel/perf_event_max_stack").read_text())


def _check_tail_calls(obj: int, number: int, title: str, log: str, name: str) -> None:
    """Was the program refused, after the verifier passed it, for what its program array holds?"""
    so, types = lib(), kernel.MAP_TYPES
    arrays = [
        _text(so.bpf_map__name(m))
        for m in _each(so.bpf_object__next_map, obj)
        if so.bpf_map__type(m) == types.index("prog_array")
    ]
    kinds = {
        _text(so.bpf_program__name(p)): so.libbpf_bpf_prog_type_str(so.bpf_program__type(p))
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


# --- BCC ------------------------------------------------------------------------------------


def load_bcc(text: str, name: str, flags: list[str]) -> Loaded:
    """Load a text in BCC's dialect."""
    bcc = kernel.import_bcc()
    trial = _trial(text, name, flags, bcc.__version__)
    native = bcc.lib
    # BCC's own binding leaves these two untyped.
    native.bpf_num_tables.argtypes = [ctypes.c_void_p]
    native.bpf_table_name.argtypes = [ctypes.c_void_p, ctypes.c_ulonglong]
    native.bpf_table_name.restype = ctypes.c_char_p
    before = _map_fds()
    try:
        with _stderr() as said:
            try:
                module = bcc.BPF(text=text.encode(), cflags=[*_WARNINGS, *flags])
            except Exception as error:  # BCC raises nothing finer
                _bcc_failed(text, name, str(error), said())
    except BaseException:
        # BCC leaves the maps that it made before it failed. It takes a descriptor to find them:
        # there is one again, now that nothing is caught any more.
        for fd in _map_fds() - before:
            os.close(fd)
        raise
    with contextlib.ExitStack() as made:
        made.callback(kernel.free_bcc, module)
        functions, maps = dict[str, Function](), dict[str, BpfMap]()
        for i in range(native.bpf_num_functions(module.module)):
            title = native.bpf_function_name(module.module, i).decode()
            kind = _bcc_kind(text, title)
            with _stderr() as said:
                try:
                    loaded = module.load_func(title.encode(), kind)
                except Exception as error:
                    _bcc_failed(text, name, str(error), said(), title, trial)
            functions[title] = Function(title, kind, loaded.fd)
        for i in range(native.bpf_num_tables(module.module)):
            title = native.bpf_table_name(module.module, i).decode()
            fd = native.bpf_table_fd(module.module, title.encode())
            maps[title] = made.enter_context(_map(fd, title, text, name))
        return Loaded(functions, maps, made.pop_all().close)


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
    debug = bcc.DEBUG_PREPROCESSOR | bcc.DEBUG_SOURCE
    bcc.BPF(text=sys.stdin.buffer.read(), cflags=sys.argv[1:], debug=debug)
except Exception:
    pass  # the second time, in our process, it says why
print("survived")
"""


def _trial(text: str, name: str, flags: list[str], version: str) -> str:
    """What BCC says while it compiles a text, in a process of its own if the text is new to us.

    Where clang's back end refuses (too much stack, say), BCC's library ends the process that it
    is in. What compiled once is not tried again.
    """
    seed = json.dumps([text, flags, version, platform.release(), _TRIAL])
    kept = kernel.cache_dir("bcc") / hashlib.sha256(seed.encode()).hexdigest()[:32]
    if kept.exists():
        return kept.read_text()
    command = [sys.executable, "-c", _TRIAL, *_WARNINGS, *flags]
    done = subprocess.run(command, input=text.encode(), capture_output=True)
    said = done.stderr.decode(errors="replace")
    if b"survived" not in done.stdout:
        said = lineinfo.COPY.sub("", said).replace("/virtual/main.c", name)
        # Its line numbers are those of the copy: the function's name is what helps.
        found = re.search(r"in function (\w+)[^:]*: (.+)", said)
        if found:
            said = f"error: in function {found[1]}: {found[2]}"
        compile_failed(name, said or f"error: BCC ended with status {done.returncode}", text)
    kernel.write_atomically(kept, said.encode())
    return said


def _bcc_kind(text: str, function: str) -> int:
    match = re.search(rf"\b{re.escape(function)}\s*\(\s*(?:const\s+)?struct\s+(\w+)", text)
    # A socket's verdict has the context of a packet filter, and helpers that only it may call.
    if match and re.search(r"\bsk_redirect_\w+\(", text[match.end() :].partition("\n}")[0]):
        return attach.SK_SKB
    return _BCC_CONTEXTS.get(match[1] if match else "", attach.TRACEPOINT)


def _bcc_failed(
    text: str, name: str, error: str, said: str, title: str = "", trial: str = ""
) -> NoReturn:
    """Raise what it was that failed: compiling, or loading the program ``title``."""
    said = said.replace("/virtual/main.c", name)
    if os.geteuid() and ("super-user" in error or "Operation not permitted" in error + said):
        raise PermissionNeeded(f"load {name} into the kernel")
    if os.strerror(errno.ENOSPC) not in said + error:  # that is a log without room, and no disk
        check_said(f"load {name} into the kernel", said + error)
    if hook := re.search(r"open\(/sys/kernel/(?:debug/)?tracing/events/(\S+)/", said):
        raise attach.no_hook(f"tracepoint/{hook[1]}", errno.ENOENT)
    refused = re.search(r"could not open bpf map: (\w+), error: (.+)", said + error)
    if refused:
        number = next((n for n in errno.errorcode if os.strerror(n) == refused[2].strip()), 0)
        raise BpfError(
            f"The kernel would not make the map {refused[1]} of {name} "
            f"(errno {describe(number)}).\n"
            "A ring buffer takes a power of two of pages, and other maps at least one entry.",
            number,
        )
    if not title:
        compile_failed(name, said or error, text)
    lines = lineinfo.of_bcc(trial, text, name)
    raise VerifierError(verifier.explain(said, text, name, lines, title), title)


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
