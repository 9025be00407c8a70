"""``build()``: the user side of a libbpf program, compiled with the skeletons that it includes."""

import hashlib
import os
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

from helpers import kernel
from helpers.compiler import compile_object, compiled, find
from helpers.errors import CompileError, LayoutError, exhaustion_told

_WARNINGS = ["-Wall", "-Wextra"]  # told when something else stops the compile


@exhaustion_told("build the program")
def build(
    path: str | os.PathLike[str] | None = None,
    *,
    text: str | None = None,
    name: str = "cell.c",
    flags: Iterable[str] = (),
) -> Path:
    """Compile a C program for this side of the kernel, and return the path of the program.

    Give the path of a file, which may be one of the course's ``bpf`` folder, or ``text=`` and
    the ``name=`` of the file that it would be. ``flags`` go to clang as they are.

    For every ``#include "NAME.skel.h"`` in it, ``NAME.bpf.c``, beside it or in the course's
    ``bpf`` folder, is compiled and made a skeleton by bpftool. All is kept in the cache, and made
    anew only if something that it is made of changed.

    Raises:
        NotFound: no such file, or no ``NAME.bpf.c``.
        CompileError: clang refused the program or a ``NAME.bpf.c``, or bpftool its object.
        Unsupported: the machine lacks clang or bpftool.

    Source: bpftool-gen(8).
    """
    if (path is None) == (text is None):
        raise LayoutError("build() takes one of a path or text=.")
    beside = kernel.ROOT / "bpf"
    if path is not None:
        file = find(path)
        text, name, beside = file.read_text(), file.name, file.parent
    names = re.findall(r'^\s*#\s*include\s+"([^"]+)\.skel\.h"', str(text), re.MULTILINE)
    folders = [*(_skeleton(name, beside) for name in names), beside, kernel.ROOT / "bpf"]
    flags = ["-g", "-O2", *_WARNINGS, *(f"-I{folder}" for folder in folders), *flags]
    return compiled(str(text), name, flags, name.removesuffix(".c"), ["-lbpf"])


def _skeleton(name: str, beside: Path) -> Path:
    """The folder of ``name``.skel.h; its path changes with what is in it."""
    wanted = beside / f"{name}.bpf.c"
    file = wanted if wanted.is_file() else find(wanted.name)
    folders = [file.parent, kernel.ROOT / "bpf"]  # as load() has them: one object for both
    made = compile_object(file.read_text(), file.name, [f"-I{folder}" for folder in folders])
    tool = kernel.bpftool()
    stat = os.stat(tool)
    seed = f"{made.name} {tool} {stat.st_mtime_ns} {stat.st_size} ".encode() + made.read_bytes()
    folder = kernel.cache_dir("objects", hashlib.sha256(seed).hexdigest()[:32])
    header = folder / f"{name}.skel.h"
    if not header.exists():
        command = [tool, "gen", "skeleton", str(made)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        if done.returncode:
            said = done.stderr.strip() or done.stdout.strip()
            raise CompileError(f"{file.name} makes no skeleton. bpftool says:\n{said}", said)
        kernel.write_atomically(header, done.stdout.encode())
    return folder
