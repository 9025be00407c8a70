"""A few mutants of each lab, the same each time; mutants.py by itself tries them all."""

import ast
import random
from functools import cache
from pathlib import Path

import pytest

from helpers import lab
from tests.labs import mutants

FEW = 4  # mutants of a lab
LABS = lab.folders()
made = cache(mutants.mutants)  # which takes some seconds for all labs


@pytest.mark.parametrize("folder", LABS, ids=lambda folder: folder.name)
def test_some_mutants_are_killed(folder: Path) -> None:
    chosen = random.Random(folder.name).sample(made(folder), FEW)
    lived = mutants.run(folder, chosen)
    assert not lived, "\n".join(f"{mutant}\n  {mutants.verdict(said)}" for mutant, said in lived)


def test_there_are_many_and_the_same_every_time() -> None:
    assert sum(len(made(folder)) for folder in LABS) >= 200
    for folder in LABS:
        found = made(folder)
        assert len({(mutant.path, mutant.text) for mutant in found}) == len(found) > 20
        assert found == mutants.mutants(folder)


def test_what_is_listed_as_equivalent_is_there_and_has_a_reason() -> None:
    found = [mutant for folder in LABS for mutant in made(folder)]
    for listed in mutants.equivalents():
        assert any(map(listed.covers, found)), listed
        assert len(listed.reason) > 20


def test_edits_of_c() -> None:
    text = """\
#include <x.h> /* 1 + 1 */
int f(struct s *p, int a[2])
{
	if (p->n >= 0x10u && !a[1]) // 3
		return a[0] - -1;
	return *p + 5;
}
"""
    found = list(mutants.of_c(text))
    assert text not in found and len(set(found)) == len(found)
    edits = {mutants._change(text, one)[:2] for one in found}
    line = "if (p->n >= 0x10u && !a[1]) // 3"
    for was, becomes in (
        (line, line.replace(">=", ">")),
        (line, line.replace(">=", "<")),
        (line, line.replace("0x10u", "17u")),
        (line, line.replace("0x10u", "15u")),
        (line, line.replace("&&", "||")),
        (line, line.replace("!", "")),
        (line, ""),
        ("return a[0] - -1;", "return a[0] + -1;"),
        ("return *p + 5;", "return *p - 5;"),
        ("return *p + 5;", "return *p + 4;"),
        ("return *p + 5;", ""),
    ):
        assert (was, becomes) in edits
    assert not any("x.h" in was or was in ("{", "}") for was, _ in edits)
    assert ("return *p + 5;", "return +p + 5;") not in edits
    assert not any("2 + 1" in becomes or "// 4" in becomes for _, becomes in edits)


def test_edits_of_python() -> None:
    text = """\
import os

def f(rows, *, least=1):
    found = [row for row in rows if row >= least and not row.odd]
    found.sort(reverse=True)
    return max(found) + 1"""
    text = ast.unparse(ast.parse(text))
    edits = {mutants._change(text, one)[:2] for one in mutants.of_python(text) if one != text}
    line = "found = [row for row in rows if row >= least and (not row.odd)]"
    for was, becomes in (
        (line, line.replace(">=", ">")),
        (line, line.replace("and (not row.odd)", "or not row.odd")),
        (line, line.replace("(not row.odd)", "row.odd")),
        (line, "pass"),
        ("def f(rows, *, least=1):", "def f(rows, *, least=2):"),
        ("found.sort(reverse=True)", "found.sort(reverse=False)"),
        ("found.sort(reverse=True)", "found.sort()"),
        ("found.sort(reverse=True)", "pass"),
        ("return max(found) + 1", "return max(found) - 1"),
        ("return max(found) + 1", "return min(found) + 1"),
        ("return max(found) + 1", "return None"),
        ("return max(found) + 1", "pass"),
    ):
        assert (was, becomes) in edits
    assert ("import os", "pass") not in edits


def test_a_survivor_is_found_and_only_an_equivalent_may_live(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = lab.open("02").folder
    path = folder / "solutions/atomic_hash.bpf.c"
    text = path.read_text()
    same = mutants.Mutant(path, "int count(", "int other(", text.replace("int count", "int other"))
    broken = mutants.Mutant(path, "count", "", text.replace("int count", "int"))
    monkeypatch.setattr(mutants, "EQUIVALENT", tmp_path / "equivalent.toml")
    mutants.EQUIVALENT.write_text("")
    [(mutant, said)] = mutants.run(folder, [same, broken])
    assert mutant == same and mutants.verdict(said) == "called right"
    assert "2 mutants, 1 killed (1 by the compiler), 0 equivalent, 1 survive" in (
        capsys.readouterr().out
    )
    mutants.EQUIVALENT.write_text(
        '[[equivalent]]\nsolution = "02_*"\nwas = "int count("\nbecomes = "int other("\n'
        'reason = "The name is free."\n'
    )
    assert mutants.run(folder, [same]) == []


def test_what_a_kernel_lacks_excuses_only_whom_the_list_says() -> None:
    mutant = mutants.Mutant(Path("labs/09_x/solutions/a.bpf.c"), "a;", "b;", "b;\n")
    listed = mutants.Equivalent("09_x/*", "a;", "b;", "why", unchecked="needs kprobes")
    assert listed.excuses(mutant, lab.Right(""))
    assert listed.excuses(mutant, lab.NotChecked("This needs kprobes."))
    assert not listed.excuses(mutant, lab.NotChecked("The check itself failed."))
    assert not listed.excuses(mutant, lab.Wrong("This needs kprobes."))
    other = listed._replace(unchecked="")
    assert other.excuses(mutant, lab.Right(""))
    assert not other.excuses(mutant, lab.NotChecked("This needs kprobes."))


def test_which_of_the_lines_that_are_alike() -> None:
    path = Path("labs/09_x/solutions/a.bpf.c")
    text = "a;\n\tb;\na;\na;\n"
    first, last = (
        mutants.Mutant(path, *mutants._change(text, new)[:2], new, *mutants._change(text, new)[2:])
        for new in ("x;\n\tb;\na;\na;\n", "a;\n\tb;\na;\nx;\n")
    )
    assert (first.nth, first.alike, last.nth, last.alike) == (1, 3, 3, 3)
    for nth, covered in ((0, "first last"), (1, "first"), (3, "last"), (-1, "last"), (-3, "first")):
        listed = mutants.Equivalent("09_x/*", "a;", "x;", "why", nth)
        for name, mutant in (("first", first), ("last", last)):
            assert listed.covers(mutant) == (name in covered)
