"""BCC's dialect: the right line, always; a part of it only where it can be no other part."""

import pytest

from helpers import load
from helpers.errors import VerifierError
from helpers.lineinfo import of_bcc
from tests.verifier.programs import FOLDER

MARKED = {
    "53_bcc_null_check": ("one->packets++, one->bytes += size(ctx);", "table.lookup(&queue)"),
    "54_bcc_unreleased": ("}", "records.ringbuf_reserve(sizeof(*record))"),
    "55_bcc_packet_bounds": ("data[12]", "u8 *data = (void *)(long)ctx->data;"),
}


@pytest.mark.parametrize("name", MARKED)
def test_what_is_marked_of_a_line(name: str) -> None:
    with pytest.raises(VerifierError) as caught:
        load(FOLDER / f"{name}.bcc.c")
    found = caught.value.diagnostic
    assert found and found.here and found.cause
    assert (found.here.marked, found.cause.marked) == MARKED[name]


@pytest.mark.parametrize(
    ("line", "marked"),
    [
        ("v = m.lookup(&a), *v += 1;", "*v"),
        ("v = m.lookup(&a), v = m.lookup(&b), *v += 1;", "*v"),
        ("if ((v = m.lookup(&a))) *v += 1; v = m.lookup(&b), *v += 1;", ""),  # of two, the second
        ("u64 two = 2; v = m.lookup(&a), two = 2 * two, *v += 1;", "*v"),  # not  2 * two
    ],
)
def test_no_column_is_guessed(line: str, marked: str) -> None:
    text = (
        "\nBPF_HASH(m, u32, u64);\nint f(struct xdp_md *ctx)\n{\n"
        f"\tu32 a = 0, b = 1;\n\tu64 *v;\n\n\t{line}\n\treturn XDP_PASS;\n}}\n"
    )
    with pytest.raises(VerifierError) as caught:
        load(text=text, dialect="bcc", name="sick.bcc.c")
    found = caught.value.diagnostic
    assert found and found.here and found.here.number == 8
    assert found.here.marked == (marked or line)


def test_a_program_of_one_line_is_shown_whole() -> None:
    text = "int n; int f(struct xdp_md *ctx) { return ++n; }"
    with pytest.raises(VerifierError) as caught:
        load(text=text, dialect="bcc")
    found = caught.value.diagnostic
    assert found and found.here and (found.here.number, found.here.marked) == (1, text)


SAID = """clang -cc1
#if defined(BPF_LICENSE)
#endif
BPF_HASH(m);
__attribute__((always_inline))
static int g(void)
{
	return 0;
}
__attribute__((section(".bpf.fn.f")))
int f(struct xdp_md *ctx) {
 return lookup(1, &one,
	two); }

#include <bcc/footer.h>
Disassembly of function f
; int f(struct xdp_md *ctx) { // Line  10
   0:\tb7 01 00 00 00 00 00 00\tr1 = 0
; return lookup(1, &one, // Line  11
   1:\t18 11 00 00 01 00 00 00 00 00 00 00 00 00 00 00\tld_pseudo\tr1, 1, 1
   3:\t95 00 00 00 00 00 00 00\texit
"""


def test_lines_that_bcc_adds_are_not_counted() -> None:
    own = "BPF_HASH(m);\nstatic int g(void)\n{\n\treturn 0;\n}\n"
    lines = of_bcc(
        SAID, own + "int f(struct xdp_md *ctx) { return lookup(&one,\n\ttwo); }\n", "x.c"
    )
    (function,) = lines.functions
    assert function.end == 4 and not lines.columns
    places = [lines.place(function, insn) for insn in range(4)]
    assert [place and place.line for place in places] == [6, 6, 6, 6]


def test_what_bcc_does_not_say_is_not_known() -> None:
    assert of_bcc("", "int f;", "x.c").functions == []
