"""Lab 03 takes any hook that calls a program at each lseek(), and says so when there is none."""

from pathlib import Path

from helpers import kernel, lab

SOLUTIONS = kernel.ROOT / "labs/03_ring_buffer_events/solutions"


def check(path: Path, text: str, answer: str = "atomic_counter.py") -> lab.Result:
    path.write_text(text)
    name = path.name.removesuffix(".c").removesuffix(".bpf").removesuffix(".bcc")
    path.with_name(f"{name}.py").write_text((SOLUTIONS / answer).read_text())
    return lab.open("03").check_file(path)


def test_a_tracepoint_that_bcc_attaches_by_itself(tmp_path: Path) -> None:
    text = (SOLUTIONS / "bcc_ring.bcc.c").read_text()
    head = "int on_seek(struct tracepoint__syscalls__sys_enter_lseek *args)"
    assert head in text
    text = text.replace(head, "TRACEPOINT_PROBE(syscalls, sys_enter_lseek)")
    result = check(tmp_path / "probe.bcc.c", text)
    assert isinstance(result, lab.Right), result


def test_a_raw_tracepoint(tmp_path: Path) -> None:
    text = (SOLUTIONS / "copied_record.bpf.c").read_text()
    for old, new in {
        "tracepoint/raw_syscalls/sys_enter": "raw_tracepoint/sys_enter",
        "struct trace_event_raw_sys_enter *ctx": "struct bpf_raw_tracepoint_args *ctx",
        "ctx->id": "(long)ctx->args[1]",
        "ctx->args[0]": "PT_REGS_PARM1_CORE_SYSCALL((struct pt_regs *)ctx->args[0])",
        "event.offset = ctx->args[1]": (
            "event.offset = PT_REGS_PARM2_CORE_SYSCALL((struct pt_regs *)ctx->args[0])"
        ),
        "#include <bpf/bpf_core_read.h>": (
            "#include <bpf/bpf_core_read.h>\n#include <bpf/bpf_tracing.h>"
        ),
    }.items():
        assert old in text
        text = text.replace(old, new)
    result = check(tmp_path / "raw.bpf.c", text)
    assert isinstance(result, lab.Right), result


def test_a_kprobe_alone(tmp_path: Path) -> None:
    """Right where the kernel has kprobes, and elsewhere not the learner's fault."""
    text = (SOLUTIONS / "kprobe_or_tracepoint.bpf.c").read_text()
    head, _, rest = text.partition('SEC("tracepoint/syscalls/sys_enter_lseek")')
    text = head + rest[rest.index('SEC("ksyscall/lseek")') :]
    result = check(tmp_path / "kprobe.bpf.c", text)
    if kernel.has_kprobes():
        assert isinstance(result, lab.Right), result
    else:
        assert isinstance(result, lab.NotChecked) and "kprobes" in repr(result), result
