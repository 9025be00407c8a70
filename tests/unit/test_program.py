"""load(), run() and attach() in both dialects, and every error on the way."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers import kernel, load, program, sandbox, source
from helpers.errors import (
    BpfError,
    Closed,
    CompileError,
    LayoutError,
    NotFound,
    Unsupported,
    VerifierError,
)

HEAD = "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n"
COUNT = (
    HEAD
    + """
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} runs SEC(".maps");

SEC("xdp")
int count(struct xdp_md *ctx)
{
	__u32 zero = 0;
	__u64 *n = bpf_map_lookup_elem(&runs, &zero);

	if (n)
		*n += STEP;
	return XDP_DROP;
}

SEC("tracepoint/syscalls/sys_enter_getpgid")
int traced(void *ctx)
{
	__u32 zero = 0;
	__u64 *n = bpf_map_lookup_elem(&runs, &zero);

	if (n && bpf_get_current_pid_tgid() >> 32 == PID)
		__sync_fetch_and_add(n, 1);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
"""
)
DEFINES = {"STEP": 2, "PID": os.getpid()}


def test_both_dialects_count_the_same_packets() -> None:
    frames = [flow.frame(40) for flow in sandbox.random_flows(50, seed=1)]
    found = []
    for name in ("hash.bpf.c", "hash.bcc.c"):
        with load(name) as prog, sandbox.pair() as net:
            prog.attach("count_packets", net.server)
            for n in range(1, 4):
                net.send(frames[: 10 * n])
            df = prog["connections"].frame()
            order = ["src_ip", "src_port", "dst_ip", "dst_port", "protocol"]
            found.append(df.drop(columns="start_ns").sort_values(order, ignore_index=True))
    assert len(found[0]) == 30
    assert found[0].packets.sum() == 60
    assert found[0].equals(found[1])
    assert found[0].dtypes.equals(found[1].dtypes)


def test_run_gives_value_time_and_packet() -> None:
    with load(text=COUNT, defines=DEFINES) as prog:
        begun = time.perf_counter_ns()
        done = prog.run("count", data=bytes(100), repeat=1000)
        took = time.perf_counter_ns() - begun
        assert done.retval == 1
        assert done.data == bytes(100)
        assert 0 < done.duration_ns * 1000 <= took
        assert prog["runs"][0] == 2000
        prog.run("count")
        assert prog["runs"][0] == 2002


@pytest.mark.parametrize("size", [0, 13, 200_000])
def test_a_packet_of_a_wrong_size_is_refused(size: int) -> None:
    with (
        load(text=COUNT, defines=DEFINES) as prog,
        pytest.raises(LayoutError, match=f"A packet of {size} bytes .*(EINVAL|ENOMEM)"),
    ):
        prog.run("count", data=bytes(size))


def test_attach_ends_with_the_link_and_with_the_program() -> None:
    with load(text=COUNT, defines=DEFINES) as prog:
        runs, start = prog["runs"], 0
        link = prog.attach("traced")
        os.getpgid(0)
        assert runs[0] == start + 1
        link.close()
        link.close()
        os.getpgid(0)
        assert runs[0] == start + 1
        prog.attach("traced")
        os.getpgid(0)
        assert runs[0] == start + 2
        assert repr(link) == "traced: detached"


def test_a_type_that_cannot_be_run_says_so() -> None:
    with (
        load(text=COUNT, defines=DEFINES) as prog,
        pytest.raises(Unsupported, match="a kernel that can test-run traced"),
    ):
        prog.run("traced")


def test_an_interface_takes_one_xdp_program() -> None:
    with sandbox.pair() as net, load("hash.bpf.c") as prog:
        link = prog.attach("count_packets", net.server)
        with pytest.raises(BpfError, match="Another XDP program .*EBUSY"):
            prog.attach("count_packets", net.server)
        link.close()
        prog.attach("count_packets", net.server)


def test_attaching_needs_a_place() -> None:
    with load("hash.bpf.c") as prog:
        with pytest.raises(LayoutError, match="say which"):
            prog.attach("count_packets")
        with pytest.raises(NotFound, match="no network interface 'none0'"):
            prog.attach("count_packets", "none0")


def test_a_hook_that_is_not_there() -> None:
    text = COUNT.replace("sys_enter_getpgid", "sys_enter_none_such")
    with (
        load(text=text, defines=DEFINES) as prog,
        pytest.raises(Unsupported, match="the hook tracepoint/syscalls/sys_enter_none_such") as no,
    ):
        prog.attach("traced")
    where, other = no.value.remedy.splitlines()
    [folder] = re.findall(r" ls (\S+) ", where)
    assert "sys_enter_getppid" in os.listdir(f"{folder}/syscalls")
    assert "./course kernels" in other


def test_names_that_are_not_there_are_listed() -> None:
    with load("hash.bpf.c") as prog:
        with pytest.raises(NotFound, match="no map 'conns'.\nIts maps: connections."):
            prog["conns"]
        with pytest.raises(NotFound, match="no program 'count'.\nIts programs: count_packets."):
            prog.run("count")
        assert ("connections" in prog, "conns" in prog) == (True, False)
    with pytest.raises(NotFound, match="no file 'none.bpf.c'.\nThe course has: .*hash.bpf.c"):
        load("none.bpf.c")


def test_a_closed_program_says_so() -> None:
    prog = load("hash.bpf.c")
    conns = prog["connections"]
    prog.close()
    prog.close()
    for act in (
        lambda: prog.run("count_packets"),
        lambda: prog.attach("count_packets"),
        lambda: conns.frame(),
        lambda: conns[1, 2, 3, 4, 5],
    ):
        with pytest.raises(Closed, match="is closed"):
            act()
    assert "closed" in repr(prog)


@pytest.mark.parametrize("name", ["hash.bpf.c", "hash.bcc.c"])
def test_closing_frees_everything(name: str) -> None:
    load(name).close()  # the first opens what stays open: libraries, the compiler's files

    def held() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = held()
    for _ in range(3):
        prog = load(name)
        assert held() > before
        prog.close()
        load(name)  # nobody keeps this one
    assert held() == before


def test_c_that_does_not_compile() -> None:
    text = HEAD + 'SEC("xdp") int f(struct xdp_md *ctx)\n{\n\treturn XDP_PAS;\n}\n'
    with pytest.raises(CompileError, match="mine.bpf.c does not compile") as libbpf:
        load(text=text, name="mine.bpf.c")
    assert "mine.bpf.c:5:9: error: use of undeclared identifier 'XDP_PAS'" in str(libbpf.value)
    assert "error" in libbpf.value.text
    text = "int f(struct xdp_md *ctx)\n{\n\treturn XDP_PAS;\n}\n"
    with pytest.raises(CompileError, match="mine.bcc.c does not compile") as bcc:
        load(text=text, name="mine.bcc.c", dialect="bcc")
    assert "mine.bcc.c:3:9: error: use of undeclared identifier 'XDP_PAS'" in str(bcc.value)


def test_load_takes_one_source_in_a_known_dialect() -> None:
    with pytest.raises(LayoutError, match="one of a path or text="):
        load()
    with pytest.raises(LayoutError, match="one of a path or text="):
        load("hash.bpf.c", text="")
    with pytest.raises(LayoutError, match='"libbpf" or "bcc", not \'gcc\''):
        load(text="", dialect="gcc")


def test_a_kernel_without_a_map_type() -> None:
    text = HEAD + (
        "struct { __uint(type, 200); __uint(max_entries, 1); __uint(key_size, 4);"
        ' __uint(value_size, 4); } future SEC(".maps");'
    )
    with pytest.raises(Unsupported, match="the map type type_200"):
        load(text=text)


def test_the_object_is_compiled_once_and_again_when_a_header_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "step.h").write_text("#define STEP 1\n")
    (tmp_path / "one.bpf.c").write_text('#include "step.h"\n' + COUNT)

    def count() -> int:
        with load(tmp_path / "one.bpf.c", defines={"PID": 1}) as prog:
            prog.run("count")
            return prog["runs"][0]

    assert count() == 1
    made = list((tmp_path / "cache").rglob("*.o"))
    assert [count(), list((tmp_path / "cache").rglob("*.o"))] == [1, made]
    (tmp_path / "step.h").write_text("#define STEP 30\n")
    assert count() == 30
    made[0].with_name("needs.json").write_text("{")  # damaged: compile again
    assert count() == 30


def test_the_global_sections_are_maps() -> None:
    text = HEAD + (
        "const volatile int limit = 7; int hits; int start = 3;\n"
        'SEC("xdp") int f(struct xdp_md *ctx) { hits += limit + start; return XDP_PASS; }\n'
    )
    with load(text=text) as prog:
        prog.run("f")
        assert prog[".bss"][0] == (10,)
        assert prog[".data"].frame().start.tolist() == [3]
        assert prog[".rodata"][0].limit == 7


def test_source_shows_what_is_loaded() -> None:
    whole = source("hash.bpf.c")
    assert whole == (kernel.ROOT / "bpf/hash.bpf.c").read_text().strip()
    key = source("hash.bpf.c", "conn_key")
    assert re.match(r"/\* A connection.*\nstruct conn_key \{\n", key)
    assert key.endswith("};")
    assert 'connections SEC(".maps");' in source("hash.bpf.c", "connections")
    assert source("hash.bcc.c", "connections").count("\n") == 1
    assert source("hash.bpf.c", "count_packets").startswith('SEC("xdp")\nint count_packets(')
    assert source("hash.bpf.c", "parse")._repr_markdown_().startswith("```c\n/* Numbers in host")
    with pytest.raises(NotFound, match="declares no 'none'"):
        source("hash.bpf.c", "none")


def test_bcc_stays_silent_and_puts_stderr_back(capfd: pytest.CaptureFixture[str]) -> None:
    with load("hash.bcc.c"):
        print("still here", file=sys.stderr, flush=True)
    with pytest.raises(VerifierError):
        load(text="int f(struct xdp_md *ctx) { return *(int *)0; }", dialect="bcc")
    assert capfd.readouterr().err == "still here\n"


def test_a_cell_that_runs_again_closes_what_it_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    parent = {"metadata": {"cellId": "cell-1"}, "header": {"msg_id": "run-1"}}

    class Shell:
        def get_parent(self) -> dict[str, dict[str, str]]:
            return parent

    ipython = type(sys)("IPython")
    ipython.get_ipython = Shell  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    one, two = load("hash.bpf.c"), load("hash.bpf.c")
    parent["header"]["msg_id"] = "run-2"
    three = load("hash.bpf.c")
    assert [p._end.alive for p in (one, two, three)] == [False, False, True]
    parent["metadata"]["cellId"] = "cell-2"
    load("hash.bpf.c").close()
    assert three._end.alive
    three.close()
    program._by_cell.clear()


WITHOUT = """
import os, sys
os.environ["PATH"] = sys.argv[1]
os.environ["BCC_KERNEL_SOURCE"] = "/nonexistent"
from helpers import load
try:
    load("hash." + sys.argv[2] + ".c")
except Exception as error:
    print(type(error).__name__, error)
"""


def run_without(*arguments: str, **options: object) -> str:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, *arguments],
        capture_output=True,
        text=True,
        cwd=kernel.ROOT,
        **options,  # type: ignore[call-overload]
    )
    return done.stdout + done.stderr


def test_without_clang(tmp_path: Path) -> None:
    said = run_without(str(tmp_path), "bpf")
    assert said.startswith("Unsupported This needs clang.\nHere: no clang on PATH.\n")
    assert "./course install" in said


def test_without_root(tmp_path: Path) -> None:
    """An ordinary user, with a cache of their own: the kernel says EPERM, and we say what to do."""
    os.chmod(tmp_path, 0o777)
    for folder in tmp_path.parents:
        if "pytest-" in str(folder):  # pytest's own, and not /tmp
            os.chmod(folder, 0o755)
    # The checkout may be in root's own home: read what is needed before the rights are gone.
    script = """
import os
from helpers import load, source
text = source("hash.bpf.c")
os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    load(text=text, name="hash.bpf.c")
except Exception as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=kernel.ROOT,
        env=os.environ | {"XDG_CACHE_HOME": str(tmp_path)},
    )
    assert done.stdout.startswith("PermissionNeeded You are not allowed to load hash.bpf.c")
    assert "./course lab" in done.stdout


NO_BPF = """
import ctypes, platform, struct
number = {"x86_64": 321, "aarch64": 280}[platform.machine()]
code = [  # seccomp: answer ENOSYS to bpf(2), as a kernel without it does
    (0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x00050000 | 38), (0x06, 0, 0, 0x7FFF0000),
]
rules = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *rule) for rule in code))
program = ctypes.create_string_buffer(struct.pack("<HxxxxxxQ", len(code), ctypes.addressof(rules)))
assert ctypes.CDLL(None).prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
assert ctypes.CDLL(None).prctl(22, 2, program, 0, 0) == 0  # PR_SET_SECCOMP
"""


def test_without_bpf() -> None:
    done = subprocess.run(
        [sys.executable, "-c", NO_BPF + WITHOUT, os.environ["PATH"], "bpf"],
        capture_output=True,
        text=True,
        cwd=kernel.ROOT,
    )
    assert done.stdout.startswith("Unsupported This needs a kernel with bpf(2).\n"), done.stderr
    assert "CONFIG_BPF_SYSCALL" in done.stdout
