"""%%bpf in a shell: C in a cell becomes a Program under a name, or the program of a lab."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import IPython
import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from helpers import lab, magic
from helpers.program import Program, load

HEAD = "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n"
PASS = HEAD + 'SEC("xdp")\nint f(struct xdp_md *ctx)\n{\n\treturn XDP_PASS;\n}\n'


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("BPF_COURSE_WORK", str(tmp_path / "work"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    quiet = Config(
        {"HistoryManager": {"enabled": False}, "InteractiveShell": {"colors": "nocolor"}}
    )
    shell = InteractiveShell(config=quiet)
    monkeypatch.setattr(IPython, "get_ipython", lambda: shell)
    magic.load_ipython_extension(shell)
    yield shell
    for value in list(shell.user_ns.values()):
        if isinstance(value, Program):
            value.close()


def test_a_name_is_bound_and_replaced(shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert shell.run_cell(f"%%bpf prog\n{PASS}").success
    assert capsys.readouterr().out == "prog.bpf.c: programs f; maps none\n"
    first = shell.user_ns["prog"]
    assert first.run("f").retval == 2
    assert shell.run_cell(f"%%bpf prog\n{PASS.replace('PASS', 'DROP')}").success
    assert "(closed)" in repr(first)
    assert shell.user_ns["prog"].run("f").retval == 1


def test_a_name_that_held_something_else_is_taken(shell: Any) -> None:
    shell.user_ns["prog"] = 42
    assert shell.run_cell(f"%%bpf prog\n{PASS}").success
    assert isinstance(shell.user_ns["prog"], Program)


def test_bcc_is_a_word_behind_the_name(shell: Any) -> None:
    text = "BPF_HASH(seen);\nint f(struct xdp_md *ctx) { return XDP_TX; }"
    assert shell.run_cell(f"%%bpf prog bcc\n{text}").success
    assert shell.user_ns["prog"].run("f").retval == 3


@pytest.mark.parametrize(
    ("line", "cell"),
    [
        ("prog", PASS.replace("XDP_PASS", "XDP_PSAS")),
        ("prog", PASS.replace("XDP_PASS", "*(int *)0")),
        ("lab=77", PASS),
        ("", PASS),
        ("two words here", PASS),
        ("not-a-name", PASS),
        ("prog libbcc", PASS),
    ],
)
def test_an_error_is_one_message(
    shell: Any, capsys: pytest.CaptureFixture[str], line: str, cell: str
) -> None:
    assert not shell.run_cell(f"%%bpf {line}\n{cell}").success
    said = capsys.readouterr()
    text = said.out + said.err
    assert "Traceback" not in text and "helpers/" not in text
    assert "Error: " in text or "NotFound: " in text


def test_lines_are_numbered_as_the_cell_shows_them(
    shell: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    cell = f"%%bpf prog\n{PASS.replace('XDP_PASS', 'XDP_PSAS')}"
    shell.run_cell(cell)
    number = 1 + next(i for i, line in enumerate(cell.splitlines()) if "PSAS" in line)
    said = capsys.readouterr()
    assert f"prog.bpf.c:{number}:" in said.out + said.err


def test_a_lab_is_saved_and_tried(shell: Any, tmp_path: Path) -> None:
    result = shell.run_cell(f"%%bpf lab=02\n{PASS}").result
    assert isinstance(result, lab.Card) and repr(result).startswith("Saved.")
    saved = tmp_path / "work/02_connection_table.bpf.c"
    assert saved.read_text() == PASS
    broken = shell.run_cell(f"%%bpf lab=02\n{PASS.replace('return', 'retrun')}")
    assert broken.success and isinstance(broken.result, lab.Wrong)
    assert "retrun" in saved.read_text()
    assert shell.run_cell(f"%%bpf lab=02 bcc\n{PASS}").success
    assert saved.with_name("02_connection_table.bcc.c").exists()


def test_importing_lab_in_a_notebook_is_enough(shell: Any) -> None:
    shell.magics_manager.magics["cell"].pop("bpf")
    lab._bring_magic()
    assert "bpf" in shell.magics_manager.magics["cell"]


def offered(shell: InteractiveShell, text: str) -> set[str]:
    """What the cell becomes by each of the completions at the sign ``|``."""
    at, text = text.index("|"), text.replace("|", "")
    with provisionalcompleter():
        return {
            text[: one.start] + one.text + text[one.end :]
            for one in shell.Completer.completions(text, at)
        }


def test_tab_offers_the_maps_and_the_functions_of_a_program(shell: InteractiveShell) -> None:
    with load("per_cpu.bpf.c") as prog:
        shell.user_ns |= {"prog": prog, "other": 42}
        assert {f'prog["{name}"]' for name in prog.maps} <= offered(shell, 'prog["|"]')
        functions = {f'prog.run("{name}")' for name in prog.programs}
        assert functions and offered(shell, 'prog.run("|")') == functions
        first, *_ = prog.programs
        assert f"x = prog.attach( '{first}" in offered(shell, f"x = prog.attach( '{first[:3]}|")
        assert not any(first in one for one in offered(shell, 'other.run("|'))
    assert len(shell.Completer.custom_matchers) == 1  # however often it was brought


@pytest.mark.parametrize(
    ("cell", "wanted"),
    [
        ('%%bpf p\n#include "conn|"', 'include "connection.h"'),
        ("%%bpf p\n#include <bpf/bpf_h|", "include <bpf/bpf_helpers.h>"),
        ("%%bpf p\nstruct {\n\t__uint(type, |", "__uint(type, BPF_MAP_TYPE_LRU_HASH"),
        ("%%bpf p\nstruct {\n\t__uint(type, BPF_MAP_TYPE_RING|", "BPF_MAP_TYPE_RINGBUF"),
        ("%%bpf p\nstruct {\n\t__ui|", "__uint"),
        ("%%bpf p\nint f(void)\n{\n\tx = bpf_map_look|(&m, &k);", "= bpf_map_lookup_elem(&m"),
        ("%%bpf lab=02\nx = bpf_get_cur|", "bpf_get_current_comm"),
        ("%%bpf p\nreturn XDP_P|", "return XDP_PASS"),
        ("%%bpf p bcc\nBPF_HA|", "BPF_HASH"),
    ],
)
def test_tab_offers_names_of_c_in_a_cell_of_c(
    shell: InteractiveShell, cell: str, wanted: str
) -> None:
    found = offered(shell, cell)
    assert any(wanted in one for one in found), found
    begun = cell.partition("|")[0]
    assert all(one.startswith(begun) and '""' not in one for one in found)
    elsewhere = offered(shell, cell.replace("%%bpf", "%%time"))
    assert not any(wanted in one for one in elsewhere)


def test_a_map_type_is_all_that_may_stand_behind_type(shell: InteractiveShell) -> None:
    found = offered(shell, "%%bpf p\n__uint(type, |)")
    assert len(found) > 20 and all("BPF_MAP_TYPE_" in one for one in found)
