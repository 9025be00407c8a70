"""What one waits for before the first entry: import, compile, verify; and the whole course."""

import itertools
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from helpers import compiler, kernel, load
from helpers.libbpf import lib
from tests.bench.measure import Row, Work, together

_LATE = ("matplotlib", "ipywidgets", "scapy", "pyroute2")


def loads(quick: bool) -> list[Row]:
    source, include = compiler.find("hash.bpf.c"), f"-I{kernel.ROOT / 'bpf'}"
    text, marks, so = source.read_text(), itertools.count(time.time_ns()), lib()
    machine = platform.machine()
    made = compiler.compile_object(text, source.name, [include])

    def bare(path: Path) -> None:
        obj = so.bpf_object__open_file(os.fsencode(path), None)
        assert obj and not so.bpf_object__load(obj)
        so.bpf_object__close(obj)

    def fresh() -> None:
        load(text=f"{text}\n// {next(marks)}", name=source.name).close()

    kept, opened = together(41, lambda: load(source).close(), lambda: bare(made))
    with tempfile.TemporaryDirectory() as folder:
        product = Path(folder) / "hash.o"
        command = [kernel.clang(), "-c", "-g", "-O2", "-target", "bpf", "-mcpu=v3", include]
        command += ["-idirafter", f"/usr/include/{machine}-linux-gnu", source, "-o", product]

        def by_hand() -> None:
            subprocess.run(command, check=True, capture_output=True)
            bare(product)

        new, compiled = together(5 if quick else 15, fresh, by_hand)
    bcc, bcc_text = kernel.import_bcc().BPF, compiler.find("hash.bcc.c").read_text().encode()

    def bare_bcc() -> None:
        module = bcc(text=bcc_text, cflags=["-w", include])
        module.load_func(b"count_packets", bcc.XDP)
        kernel.free_bcc(module)

    load("hash.bcc.c").close()  # a text that is new to the course is tried in another process
    ours, theirs = together(3 if quick else 9, lambda: load("hash.bcc.c").close(), bare_bcc)
    by_types = "Python: the text to hash, its headers to stat, a BpfMap for each map"
    return [
        Row("load() of a kept object", kept, "bare libbpf open, load", opened, 1.3, by_types),
        Row("load() of a new text", new, "bare clang, open, load", compiled, 1.2, "clang"),
        Row("load() of BCC's dialect", ours, "bare bcc.BPF", theirs, 1.05, "BCC's clang"),
    ]


def imports(quick: bool) -> list[Row]:
    def start(code: str) -> Work:
        line = [sys.executable, "-c", code]
        return Work(lambda: subprocess.run(line, check=True, cwd=kernel.ROOT))

    code = f"import sys, helpers.program; print(sum(m in sys.modules for m in {_LATE}))"
    line = [sys.executable, "-c", code]
    early = int(subprocess.run(line, check=True, cwd=kernel.ROOT, capture_output=True).stdout)
    starts = ("import helpers", "from helpers import load", "import pandas")
    ours, first, theirs = together(5 if quick else 15, *map(start, starts))
    return [
        Row(starts[0], ours, starts[2], theirs, 1.1, "Python's own start"),
        Row(starts[1], first, starts[2], theirs, 1.1, "import numpy"),
        Row("imported before it is used", early, ", ".join(_LATE), 0, 0, "", unit=""),
    ]


def notebooks(quick: bool) -> list[Row]:
    """All notebooks by nbval, as ./course test does it."""
    line = [sys.executable, "-m", "pytest", "-q", "notebooks"]
    start = time.monotonic()
    subprocess.run(line, check=True, cwd=kernel.ROOT, stdout=sys.stderr)
    taken = time.monotonic() - start
    return [Row("all notebooks validated", taken, "4 minutes", 240, 1, "what they measure")]


WORKS = [loads, imports]
