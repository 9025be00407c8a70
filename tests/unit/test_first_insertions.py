"""Two CPUs that insert one key at once: the second finds it there, and counts all the same.

Two CPUs that really meet are rare. Here a program is made to miss what is there, as it would if
another CPU had inserted the key right after its lookup.
"""

import os
from pathlib import Path

import pytest

from helpers import load, sandbox, source
from helpers.kernel import ROOT

HEADER = ROOT / "bpf/three_doors.h"  # which a copy elsewhere does not find

# The file, its program, its map, and the lookup that is to miss, in libbpf's dialect and in BCC's.
XDP = [
    ("pinning", "count", "totals", "&totals, &protocol"),
    ("three_doors", "count_ports", "ports", "&ports, &port"),
    ("lru", "remember", "cache", "&cache, &port"),
    ("hash", "count_packets", "connections", "&connections, &key"),
]


def missing(folder: Path, file: str, arguments: str) -> Path:
    """A copy of ``file`` whose first lookup with these arguments finds nothing."""
    name, _, key = arguments.removeprefix("&").partition(", ")
    call = f"{name}.lookup({key})" if ".bcc." in file else f"bpf_map_lookup_elem({arguments})"
    text = source(file)
    assert text.count(call) == 2
    path = folder / file
    path.write_text(text.replace(call, "NULL", 1).replace('"three_doors.h"', f'"{HEADER}"'))
    return path


@pytest.mark.parametrize("dialect", ["bpf", "bcc"])
@pytest.mark.parametrize(("topic", "program", "name", "arguments"), XDP, ids=lambda x: x)
def test_a_packet_counts(
    topic: str, program: str, name: str, arguments: str, dialect: str, tmp_path: Path
) -> None:
    file = f"{topic}.{dialect}.c"
    with load(missing(tmp_path, file, arguments)) as prog:
        for _ in range(3):
            prog.run(program, data=sandbox.udp(sport=4000))
        [value] = prog[name].values()
    assert getattr(value, "packets", value) == 3


@pytest.mark.parametrize("dialect", ["bpf", "bcc"])
def test_a_stack_counts(dialect: str, tmp_path: Path) -> None:
    file = f"stack_traces.{dialect}.c"
    with load(missing(tmp_path, file, "&seen, place")) as prog:
        prog["watched"][0] = os.getpid()
        link = prog.attach("count_callers", *(["syscalls:sys_enter_getppid"] * (dialect == "bcc")))
        for _ in range(3):
            os.getppid()
        link.close()
        assert sum(prog["seen"].values()) == 3
