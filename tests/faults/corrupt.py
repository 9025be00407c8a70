"""Cut and bit-flipped input: objects, BTF, line information, logs, compilers' words, ELF files.

What our Python reads of it ends in a result or in a BpfError, within five seconds and with no file
left open. libbpf is another matter: 1.1 dies of one in some five hundred damaged objects. None
reaches it, since an object out of the cache is loaded only if it is what clang once made, byte for
byte, and that is tried with each; what comes behind is tried as well, in a process that may die.

Nobody but the kernel writes the pages of ring and perf buffers that we read: there is no way to
damage them.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from helpers import btf, build, compiler, dialects, kernel, load, symbols, verifier
from helpers.errors import BpfError, CompileError, VerifierError
from helpers.libbpf import lib
from helpers.lineinfo import LineInfo, of_object
from helpers.maps import _layouts
from tests.faults import Part

INPUTS = 1000  # a round
SECONDS = 5  # that one may take
PROGRAMS = "hash array explorer event_buffers globals lru patterns pinning socket_maps".split()
PROGRAMS += "tail_calls three_doors why_maps clinic_index clinic_null".split()
LARGEST = 16 << 20  # bytes of the maps of an object that we load: flipped bits ask for gigabytes
NATIVE = "int one(int n) { return n + 1; }\nint main(void) { return one(-1); }\n"
DEATHS = -signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS, -signal.SIGFPE


def one(number: int) -> int:
    """A thousand inputs, in a process that goes on behind one that killed it: so many did."""
    begin, deaths = 0, 0
    while begin < INPUTS:
        command = [sys.executable, "-m", __name__, str(number), str(begin)]
        done = subprocess.run(command, cwd=kernel.ROOT, capture_output=True, text=True)
        assert done.stdout, done.stderr
        at, kind = done.stdout.splitlines()[-1].split()
        if done.returncode == 0:
            assert int(at) == INPUTS - 1
            break
        told = f"input {at} of round {number}, {kind}: {done.returncode}\n{done.stderr}"
        assert kind == "behind_the_cache" and done.returncode in DEATHS, told
        begin, deaths = int(at) + 1, deaths + 1
    return deaths


def harmed(rng: random.Random, whole: bytes) -> bytes:
    """Never the same as ``whole``."""
    data, at = bytearray(whole), rng.randrange(len(whole))
    match rng.randrange(5):
        case 0:
            return whole[:at]
        case 1:
            data[at : at + 4] = rng.choice(
                [b"\0" * 4, b"\xff" * 4, b"\xff\xff\xff\x7f", b"\1\0\0\0"]
            )
        case 2:
            size, there = rng.randrange(1, 65), rng.randrange(len(whole))
            data[at : at + size] = whole[there : there + size]
        case _:
            for _ in range(rng.choice([1, 1, 2, 16])):
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data) if data != whole else whole[:at]


class Whole(NamedTuple):
    """What is damaged in a round."""

    name: str  # of the C file
    text: str
    cached: Path  # its object
    data: bytes
    types: bytes
    maps: list[tuple[int, int, int, int]]  # the types and sizes of key and value
    refused: list[tuple[VerifierError, str, str, LineInfo]]  # with text, name and lines
    wrong: CompileError
    native: bytes  # a program of this machine

    @classmethod
    def of(cls, rng: random.Random) -> "Whole":
        path = kernel.ROOT / "bpf" / f"{rng.choice(PROGRAMS)}.bpf.c"
        text = path.read_text()
        cached = _object(text, path.name)
        obj = lib().bpf_object__open_file(os.fsencode(cached), None)
        so, types = lib(), btf._bytes_at(lib().bpf_object__btf(obj))
        maps = [
            (
                so.bpf_map__btf_key_type_id(m),
                so.bpf_map__btf_value_type_id(m),
                so.bpf_map__key_size(m),
                so.bpf_map__value_size(m),
            )
            for m in dialects._each(so.bpf_object__next_map, obj)
        ]
        so.bpf_object__close(obj)
        refused = []
        for one in rng.sample(sorted(kernel.ROOT.glob("bpf/clinic_*.bpf.c")), 3):
            try:
                load(one).close()
            except VerifierError as error:
                source = one.read_text()
                refused.append((error, source, one.name, of_object(_object(source, one.name))))
        assert refused
        try:
            load(text=f"{text}\nint f(void) {{ return missing; }}", name=path.name)
        except CompileError as error:
            wrong = error
        native = build(text=NATIVE, name="named.c").read_bytes()
        return cls(
            path.name, text, cached, cached.read_bytes(), types, maps, refused, wrong, native
        )


def _object(text: str, name: str) -> Path:
    return compiler.compile_object(text, name, [f"-I{kernel.ROOT / 'bpf'}"])


# --- kinds of input: each takes the round's material, a folder to write to, and its own chance ---


def behind_the_cache(whole: Whole, folder: Path, rng: random.Random) -> None:
    data = harmed(rng, whole.data)
    path = folder / "damaged"
    path.write_bytes(data)
    record = whole.cached.with_name("needs.json")
    assert compiler._fresh(whole.cached, record) and not compiler._fresh(path, record)
    if not _modest(path):
        return
    with mock.patch.object(dialects, "compile_object", lambda *_: path), suppress(BpfError):
        loaded = dialects.load_libbpf(whole.text, whole.name, [], {})
        for one in loaded.maps.values():
            one.close()
        loaded.free()


def _modest(path: Path) -> bool:
    so, size = lib(), 0
    if obj := so.bpf_object__open_file(os.fsencode(path), None):
        for one in dialects._each(so.bpf_object__next_map, obj):
            entry = so.bpf_map__key_size(one) + so.bpf_map__value_size(one) * kernel.cpus() + 64
            size += entry * so.bpf_map__max_entries(one)
        so.bpf_object__close(obj)
    return size < LARGEST


def the_cache(whole: Whole, folder: Path, rng: random.Random) -> None:
    with mock.patch.dict(os.environ, XDG_CACHE_HOME=str(folder)):
        made = _object(whole.text, whole.name)
        record = made.with_name("needs.json")
        for file in rng.sample([made, record], rng.choice([1, 2])):
            file.write_bytes(harmed(rng, file.read_bytes()))
        with suppress(VerifierError):  # the clinic's programs are refused when they are whole
            load(text=whole.text, name=whole.name).close()
        assert compiler._fresh(made, record)


def record(whole: Whole, folder: Path, rng: random.Random) -> None:
    path = folder / "damaged"
    path.write_bytes(harmed(rng, whole.cached.with_name("needs.json").read_bytes()))
    assert not compiler._fresh(whole.cached, path)


def types(whole: Whole, folder: Path, rng: random.Random) -> None:
    damaged = harmed(rng, whole.types)
    for key_type, value_type, *sizes in whole.maps:
        with suppress(BpfError):
            for layout in _layouts.__wrapped__(damaged, key_type, value_type, *sizes):
                raw = rng.randbytes(layout.size)
                layout.decode(raw)
                table = btf.np.frombuffer(raw * 3, "u1").reshape(3, layout.size)
                assert all(len(column) == 3 for _, column in layout.columns(table, 0, ""))
                assert f"{layout!r} {layout.shape} {layout.dtype} {layout.padding}"


def lines(whole: Whole, folder: Path, rng: random.Random) -> None:
    path = folder / "damaged"
    path.write_bytes(harmed(rng, whole.data))
    found = of_object(path)
    found.open_end()
    for function in found.functions:
        found.deepest(function)
        found.place(function, rng.randrange(100))


def log(whole: Whole, folder: Path, rng: random.Random) -> None:
    error, source, name, its = rng.choice(whole.refused)
    said = harmed(rng, error.log.encode()).decode(errors="replace")
    for known in (its, None):
        found = verifier.explain(said, source, name, known, error.program)
        assert found.error in repr(found) and "<b>" in found._repr_html_()


def complaint(whole: Whole, folder: Path, rng: random.Random) -> None:
    said = harmed(rng, whole.wrong.text.encode()).decode(errors="replace")
    try:
        compiler.compile_failed(whole.name, said, whole.text)
    except CompileError as error:
        assert error.diagnostic and repr(error.diagnostic) and error.diagnostic._repr_html_()


def elf(whole: Whole, folder: Path, rng: random.Random) -> None:
    path = folder / "damaged"
    path.write_bytes(harmed(rng, whole.native))
    if file := symbols._read(str(path)):
        for _ in range(5):
            file.function(rng.randrange(1 << 16))


KINDS: dict[Callable[[Whole, Path, random.Random], None], int] = {
    behind_the_cache: 400,
    types: 300,
    log: 100,
    lines: 70,
    elf: 50,
    complaint: 40,
    record: 37,
    the_cache: 3,
}


def _child(number: int, begin: int) -> None:
    whole = Whole.of(random.Random(number))
    kinds = random.Random(number).sample(list(KINDS), INPUTS, counts=list(KINDS.values()))
    before = len(os.listdir("/proc/self/fd"))
    for at, kind in list(enumerate(kinds))[begin:]:
        print(at, kind.__name__, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            signal.alarm(SECONDS)  # which ends us
            kind(whole, Path(folder), random.Random(f"{number} {at}"))
            signal.alarm(0)
        assert len(os.listdir("/proc/self/fd")) == before, "it left a file open"


PART = Part(one, rounds=100, short=1, unit=f"{INPUTS} damaged inputs", at_once=2)

if __name__ == "__main__":
    _child(int(sys.argv[1]), int(sys.argv[2]))
