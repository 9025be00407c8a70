"""./course check-labs and export-nbgrader: what an instructor does with the work of a class."""

import csv
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import nbformat
import pytest

from helpers import instructor, kernel, lab
from helpers.errors import NotFound, PermissionNeeded
from helpers.kernel import ROOT

SECOND = ROOT / "labs/02_connection_table"
NAME = "02_connection_table.bpf.c"
RIGHT = (SECOND / "solutions/atomic_hash.bpf.c").read_text()
BCC = (SECOND / "solutions/bcc_hash.bcc.c").read_text()
STARTER = (SECOND / "starter.bpf.c").read_text()
WRONG = RIGHT.replace("connections", "table")


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def notebook(path: Path, *cells: str) -> Path:
    made = [{"cell_type": "code", "source": cell.splitlines(keepends=True)} for cell in cells]
    return write(path, json.dumps({"cells": made, "nbformat": 4}))


def checked(folder: Path) -> dict[tuple[str, str], dict[str, str]]:
    instructor.check_labs(folder, folder.parent / "out.csv")
    with open(folder.parent / "out.csv", newline="", encoding="utf-8") as file:
        return {(row["student"], row["lab"]): row for row in csv.DictReader(file)}


def states(folder: Path) -> dict[str, str]:
    return {student: row["state"] for (student, _), row in checked(folder).items()}


@pytest.fixture
def class_(tmp_path: Path) -> Path:
    folder = tmp_path / "class"
    folder.mkdir()
    return folder


def test_a_class_is_one_table(class_: Path) -> None:
    write(class_ / "ada" / NAME, RIGHT)
    write(class_ / "ben/work" / NAME, WRONG)
    write(class_ / "cleo/02_connection_table/work" / NAME, STARTER)
    write(class_ / "dora/02_connection_table/02_connection_table.bcc.c", BCC)
    write(class_ / "eve/notes.txt", RIGHT)
    write(class_ / "finn/work" / NAME, RIGHT.replace("packet.length", "packet.size"))
    write(class_ / "a file.txt", "")
    (class_ / ".hidden").mkdir()
    rows = checked(class_)
    assert {student for student, _ in rows} == set("ada ben cleo dora eve finn".split())
    assert {name for _, name in rows} == {"02_connection_table"}
    by_student = {student: row for (student, _), row in rows.items()}
    assert by_student["ada"]["state"] == by_student["dora"]["state"] == "right"
    assert by_student["ben"]["state"] == by_student["finn"]["state"] == "wrong"
    assert by_student["cleo"]["state"] == by_student["eve"]["state"] == "not attempted"
    assert "has no map `connections`" in by_student["ben"]["said"]
    assert by_student["ben"]["ask"].endswith("?")
    assert "no member named 'size'" in by_student["finn"]["said"]
    assert float(by_student["ada"]["seconds"]) > 0
    assert str(class_) not in (class_.parent / "out.csv").read_text()


def test_the_newest_counts_but_no_starter(class_: Path) -> None:
    old, new = write(class_ / "a/old" / NAME, RIGHT), write(class_ / "a/new" / NAME, WRONG)
    os.utime(old, (1000, 1000))
    write(class_ / "b/work" / NAME, RIGHT)
    notebook(class_ / "b/lab.ipynb", f"%%bpf lab=02\n{STARTER}", "ex.check()")
    notebook(class_ / "c/lab.ipynb", f"%%bpf lab=02\n{WRONG}", "1", f"%%bpf lab=2 bcc\n{BCC}")
    write(class_ / "d/work/history/02_connection_table.001.bpf.c", RIGHT)
    assert states(class_) == {"a": "wrong", "b": "right", "c": "right", "d": "not attempted"}
    os.utime(new, (500, 500))
    assert states(class_)["a"] == "right"


def test_links_lead_nowhere_else(class_: Path, tmp_path: Path) -> None:
    secret = write(tmp_path / "elsewhere" / NAME, RIGHT)
    mine = write(class_ / "honest" / NAME, RIGHT)
    for name in ("file", "other", "folder", "chain", "loop", "inside", "pipe", "gone"):
        (class_ / name).mkdir()
    (class_ / "file" / NAME).symlink_to(secret)
    (class_ / "other" / NAME).symlink_to(mine)
    (class_ / "folder/work").symlink_to(secret.parent)
    (class_ / "chain/step").symlink_to(secret.parent)
    (class_ / "chain" / NAME).symlink_to(f"step/{NAME}")
    (class_ / "loop" / NAME).symlink_to(NAME)
    write(class_ / "inside/code.c", RIGHT)
    (class_ / "inside" / NAME).symlink_to("code.c")
    os.mkfifo(class_ / "pipe" / NAME)
    (class_ / "gone" / NAME).symlink_to("nothing")
    (class_ / "student").symlink_to(secret.parent)
    assert states(class_) == {
        "honest": "right",
        "inside": "right",
        **dict.fromkeys("file other folder chain loop pipe gone".split(), "not attempted"),
    }


def test_files_that_are_no_programs(class_: Path) -> None:
    (write(class_ / "binary" / NAME, "")).write_bytes(bytes(range(256)) * 10)
    write(class_ / "large" / NAME, RIGHT + "/" * (lab.LONGEST + 1))
    (class_ / "folder" / NAME).mkdir(parents=True)
    write(class_ / "damaged/lab.ipynb", '{"cells": [')
    write(class_ / "odd/lab.ipynb", '{"cells": [{"cell_type": "code"}, 5]}')
    write(class_ / "deep/lab.ipynb", "[" * 100_000)
    notebook(class_ / "unknown/lab.ipynb", "%%bpf lab=99\nint x;", "%%bpf prog\nint x;")
    assert states(class_) == {
        "binary": "wrong",
        "large": "wrong",
        **dict.fromkeys("folder damaged odd deep unknown".split(), "not attempted"),
    }


def test_what_cannot_be_read_is_said(class_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(class_ / "ada" / NAME, RIGHT)

    def refuse(*_: object) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(instructor, "_content", refuse)
    [row] = checked(class_).values()
    assert row["state"] == "not checked" and "cannot be read: Permission denied" in row["said"]


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(1)", "'@SUM(1)"),
        (" =1", "' =1"),
        ("\n=1", "'\n=1"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'=1"),
        ("\x1b[2J=1", "[2J=1"),
        ("＝1", "'＝1"),
        ("\ud800", "?"),
        ('two\nlines, "quoted" ü →', 'two\nlines, "quoted" ü →'),
        ("", ""),
    ],
)
def test_a_cell_is_no_formula(text: str, cell: str) -> None:
    assert instructor.defused(text) == cell


def test_a_students_name_and_words_are_defused_too(class_: Path) -> None:
    write(class_ / '=cmd|"x"!A1' / NAME, f"#error =1+1\n{RIGHT}")
    os.mkdir(os.fsencode(class_) + b"/\xff")
    [first, second] = checked(class_).values()
    assert first["student"] == '\'=cmd|"x"!A1' and second["student"] == "?"


def test_what_is_wrong_with_the_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="There is no folder"):
        instructor.check_labs(tmp_path / "nowhere", tmp_path / "out.csv")
    with pytest.raises(NotFound, match="holds no submission"):
        instructor.check_labs(tmp_path, tmp_path / "out.csv")
    assert not [*tmp_path.iterdir()]


def test_it_takes_root(class_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(PermissionNeeded, match="check-labs"):
        instructor.check_labs(class_, class_.parent / "out.csv")


def course(*args: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "course", *args], cwd=cwd, capture_output=True, text=True, timeout=120
    )


def test_the_command(class_: Path) -> None:
    write(class_ / "ada" / NAME, WRONG)
    (class_ / "ben").mkdir()
    shutil.chown(class_, 1234, 1234)
    done = course("check-labs", "class", cwd=class_.parent)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        "02_connection_table: 1 not attempted, 1 wrong\nEach check is a row of labs.csv\n"
    )
    out = class_.parent / "labs.csv"
    assert out.read_text().startswith("student,lab,state,said,ask,seconds\nada,02_")
    assert out.stat().st_uid == 1234
    done = course("check-labs", "nobody", "--out", "x.csv", cwd=class_.parent)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "There is no folder nobody.\n"
    done = course("check-labs", "class", "--out", "no/such/x.csv", cwd=class_.parent)
    assert done.returncode == 1 and "no/such/x.csv" in done.stderr and "Trace" not in done.stderr


# --- nbgrader -------------------------------------------------------------------------------

LAB = "02_connection_table"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nbgrader") / "course"
    done = course("export-nbgrader", folder, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return folder


def nbgrader(folder: Path, *args: str) -> None:
    packages = kernel.cache_dir() / "nbgrader"
    assert (packages / "stamp").exists(), "nbgrader is missing: ./course test installs it"
    done = subprocess.run(
        [ROOT / ".venv/bin/python", "-m", "nbgrader", *args],
        cwd=folder,
        env=os.environ
        | {"PYTHONPATH": str(packages), "PATH": f"{packages}/bin:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr


def cells(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text())["cells"]


def test_every_lab_is_an_assignment(exported: Path) -> None:
    assignments = sorted(path.name for path in (exported / "source").iterdir())
    assert assignments == sorted(path.parent.name for path in ROOT.glob("labs/*/lab.ipynb"))
    for name in assignments:
        path = exported / f"source/{name}/{name}.ipynb"
        nbformat.validate(nbformat.reads(path.read_text(), as_version=4))
        known = [cell["metadata"].get("nbgrader") for cell in cells(path)]
        described = [one for one in known if one]
        assert len({one["grade_id"] for one in described}) == len(described)
        assert sum(one["solution"] for one in described) == len(lab.open(name).parts)
        [graded] = [one for one in described if one["grade"]]
        assert graded["locked"] and graded["points"] > 0
        assert "](.." not in path.read_text()


def test_a_course_is_never_overwritten(exported: Path) -> None:
    done = course("export-nbgrader", exported, cwd=ROOT)
    assert done.returncode == 1
    assert "is there already: name another folder" in done.stderr and "Trace" not in done.stderr


def test_nbgrader_grades_a_right_and_a_wrong_submission(exported: Path) -> None:
    nbgrader(exported, "generate_assignment", LAB)
    released = exported / f"release/{LAB}/{LAB}.ipynb"
    [given] = [cell for cell in cells(released) if cell["source"][0] == "%%bpf lab=02\n"]
    assert "".join(given["source"][1:]) == STARTER.rstrip("\n")
    assert "assert" not in "".join(cells(released)[-1]["source"])
    for student, text in {"ada": RIGHT, "ben": WRONG, "cleo": WRONG, "dora": STARTER}.items():
        notebook = json.loads(released.read_text())
        [cell] = [one for one in notebook["cells"] if one["id"] == given["id"]]
        cell["source"] = f"%%bpf lab=02\n{text}"
        if student == "cleo":  # who leaves out the check
            notebook["cells"][-1]["source"] = "pass"
        write(exported / f"submitted/{student}/{LAB}/{LAB}.ipynb", json.dumps(notebook))
    nbgrader(exported, "autograde", LAB)
    nbgrader(exported, "export")
    with open(exported / "grades.csv", newline="") as file:
        scores = {row["student_id"]: float(row["score"]) for row in csv.DictReader(file)}
    assert scores == {"ada": instructor.POINTS, "ben": 0, "cleo": 0, "dora": 0}
    said = json.dumps(cells(exported / f"autograded/ben/{LAB}/{LAB}.ipynb")[-1]["outputs"])
    assert "has no map `connections`" in said
    # The same folder, without running anybody's notebook:
    assert states(exported / "submitted") == {
        "ada": "right",
        "ben": "wrong",
        "cleo": "wrong",
        "dora": "not attempted",
    }
