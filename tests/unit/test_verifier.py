"""Verifier errors: the right line, the right rule, in both dialects; unknown ones as they are."""

import pytest

from helpers import load, verifier
from helpers.errors import VerifierError

HEAD = """#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct key { __u8 a; __u32 b; };
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 8);
	__type(key, struct key); __type(value, __u64); } m SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 8);
	__type(key, __u32); __type(value, __u64[4]); } a SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } r SEC(".maps");
SEC("xdp")
int f(struct xdp_md *ctx)
{
"""
TAIL = '\treturn XDP_PASS;\n}\nchar L[] SEC("license") = "Dual MIT/GPL";\n'

CASES = {
    "null": (
        "struct key k = {};\n\t__u64 *v = bpf_map_lookup_elem(&m, &k);\n\t*v = 1; /* here */\n",
        "the lookup may have returned NULL",
    ),
    "reserve": (
        "__u64 *e = bpf_ringbuf_reserve(&r, 8, 0);\n\t*e = 1; /* here */\n"
        "\tbpf_ringbuf_submit(e, 0);\n",
        "the reservation may have returned NULL",
    ),
    "leak": (
        "__u64 *e = bpf_ringbuf_reserve(&r, 8, 0);\n\tif (e)\n\t\t*e = 1;\n",
        "keeps what it reserved",
    ),
    "packet": (
        "char *data = (void *)(long)ctx->data;\n\tif (data[20] == 1) /* here */\n"
        "\t\treturn XDP_DROP;\n",
        "may lie behind the packet's end",
    ),
    "value": (
        "__u32 k = 0;\n\t__u64 *v = bpf_map_lookup_elem(&a, &k);\n"
        "\tif (v)\n\t\tv[ctx->rx_queue_index] = 1; /* here */\n",
        "may reach outside the map's value",
    ),
    "loop": (
        "volatile int n = 0;\n\tfor (;;)\n\t\tn++; /* here */\n",
        "cannot see this loop end",
    ),
    "helper": (
        "bpf_get_current_pid_tgid(); bpf_override_return((void *)ctx, 0); /* here */\n",
        "may not call this helper",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_rule_is_recognised_at_its_line(name: str) -> None:
    body, rule = CASES[name]
    text = f"{HEAD}\t{body}{TAIL}"
    with pytest.raises(VerifierError) as caught:
        load(text=text, name="sick.bpf.c").close()
    said = str(caught.value)
    assert rule in said.splitlines()[0]
    assert "help: " in said
    here = [i for i, line in enumerate(text.splitlines(), 1) if "/* here */" in line]
    if here:
        assert f"sick.bpf.c:{here[0]}\n" in said, said
    assert caught.value.log
    assert caught.value.errno_name


def test_bcc_lines_are_those_of_the_learner() -> None:
    text = (
        "BPF_HASH(m, u32, u64);\n\n\nint f(struct xdp_md *ctx)\n{\n\tu32 k = 0;\n"
        "\tu64 *v = m.lookup(&k);\n\n\t*v += 1;\n\treturn XDP_PASS;\n}\n"
    )
    with pytest.raises(VerifierError) as caught:
        load(text=text, dialect="bcc", name="sick.bcc.c")
    assert "sick.bcc.c:9\n" in str(caught.value)
    assert "7 | u64 *v = m.lookup(&k);" in str(caught.value)


def test_what_is_not_known_is_shown_as_it_is() -> None:
    log = "0: (b7) r0 = 0\n; return zero(); @ x.c:2\n1: (95) exit\nthe moon is full\n"
    said = verifier.explain(log, "int zero(void);\nreturn zero();\n", "x.c")
    assert said.startswith("the verifier refused this program\n --> x.c:2\n")
    assert said.endswith("(the kernel said: the moon is full)")
    assert "help" not in said


def test_lines_without_numbers_are_found_by_their_text() -> None:
    log = "; *v = 1;\n3: (7b) *(u64 *)(r0 +0) = r1\nR0 invalid mem access 'map_value_or_null'\n"
    assert "x.c:2\n" in verifier.explain(log, "v = lookup();\n\t*v = 1;\n", "x.c")
    twice = verifier.explain(log, "*v = 1;\n*v = 1;\n", "x.c")
    assert "--> x.c\n" in twice  # it could be either: no number is better than a wrong one


def test_an_empty_log_is_no_crash() -> None:
    assert "(the kernel said: nothing)" in verifier.explain("", "", "x.c")
