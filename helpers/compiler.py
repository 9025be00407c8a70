"""From C to an object file or a program: found, compiled by clang, and kept."""

import errno
import hashlib
import json
import os
import platform
import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from helpers import kernel
from helpers.errors import CompileError, NotFound


class Source(str):
    """C text that shows itself as a highlighted listing in JupyterLab."""

    def _repr_markdown_(self) -> str:
        return f"```c\n{self}\n```"

    def __repr__(self) -> str:
        return str(self)


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
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / name).write_text(text)
        command = [clang, *flags, "-MD", "-MF", "needs", name, "-o", product, *libraries]
        done = subprocess.run(command, cwd=work, capture_output=True, text=True, errors="replace")
        if done.returncode:
            compile_failed(name, done.stderr)
        paths = (work / "needs").read_text().replace("\\\n", " ").split()[2:]
        found = {path: _stamp(path) for path in paths if path != name}
        (cache / key).mkdir(mode=0o700, exist_ok=True)
        kernel.write_atomically(made, (work / product).read_bytes())
        made.chmod(0o700)
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


def compile_failed(name: str, said: str) -> NoReturn:
    """Raise the ``CompileError`` for what clang said: its first complaint, with its place."""
    lines = said.strip().splitlines()
    first = next((i for i, line in enumerate(lines) if re.search(_COMPLAINT, line)), 0)
    # From clang 17 on a margin with the line's number stands before the C: it is said above.
    shown = "\n".join(re.sub(r"^ +\d* +\| ", "", line) for line in lines[first : first + 3])
    count = sum("error:" in line for line in lines)
    others = "is 1 more error" if count == 2 else f"are {count - 1} more errors"
    more = f"\nThere {others}; mend this one first." if count > 1 else ""
    raise CompileError(f"{name} does not compile. clang says:\n{shown}{more}", said)
