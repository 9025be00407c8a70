"""For instructors: check the labs that a class has handed in, and make an nbgrader course of them.

A submission is text that somebody else wrote. ``check_labs()`` reads and copies it, never follows
it out of its folder, and has it judged in a process of its own: see ``helpers.lab`` and
``helpers.answers``. nbgrader runs whole notebooks instead, with all the rights of who calls it.
"""

import csv
import json
import os
import re
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from helpers import kernel, lab
from helpers.errors import NotFound, PermissionNeeded
from helpers.lab import PARTS, SUFFIXES, Lab, NotChecked, Result

COLUMNS = "student", "lab", "state", "said", "ask", "seconds"
STATES = {"Right": "right", "Wrong": "wrong", "NotAttempted": "not attempted"}
NOTEBOOK = 32 << 20  # bytes of one that is read
POINTS = 10  # that a lab is worth

CONFIG = """\
# nbgrader's settings for the labs of BPF Maps, Measured. Start it in this folder, as root: the
# notebooks load programs into the kernel. It runs what students wrote with all of root's rights: do
# that on a machine that you can lose. ./course check-labs submitted/ does without.
c = get_config()  # noqa
c.CourseDirectory.course_id = "bpf-maps-measured"
c.ClearSolutions.enabled = False  # the cells hold the starters already
c.ExecutePreprocessor.timeout = 120  # seconds; a check takes up to 60
"""
SETUP = """\
import os

os.environ["BPF_COURSE_WORK"] = os.path.abspath("work")  # beside this notebook"""
GRADE = """\
# The last check, for the grade.
### BEGIN HIDDEN TESTS
from helpers import lab

result = lab.open("{number}").check()
assert isinstance(result, lab.Right), result
### END HIDDEN TESTS"""


class Found(NamedTuple):
    """One part of a lab as a student handed it in: a file, or a cell of a notebook."""

    lab: str  # the name of its folder
    dialect: str
    when: int
    path: Path
    cell: str | None = None  # None: the whole file is the program


class Row(NamedTuple):
    """What the check said of one lab of one student."""

    student: str
    lab: str
    result: Result
    seconds: float

    def cells(self) -> list[str]:
        result = self.result
        said = "\n".join(part for part in (result.said, result.listing) if part)
        state = STATES.get(type(result).__name__, "not checked")
        texts = [self.student, self.lab, state, said, result.ask, f"{self.seconds:.1f}"]
        return [defused(text) for text in texts]


def check_labs(folder: Path, out: Path) -> Counter[tuple[str, str]]:
    """Check what lies below ``folder``, a folder a student, and write a CSV of one row a check.

    A submission is a file of the name that it has in ``work/``, such as
    ``02_connection_table.bpf.c``, anywhere below the student's folder, or a notebook with its
    ``%%bpf lab=02`` cell; of several the newest counts that is not the starter. Each student has
    a row for each lab that anybody handed in. Returns how many rows there are of each lab and
    state.

    Raises:
        NotFound: there is no such folder, or no submission in it.
        PermissionNeeded: checks take root.
    """
    from tqdm import tqdm

    if os.geteuid():
        raise PermissionNeeded("check labs", "Use ./course check-labs, which asks for the rights.")
    found = {student.name: [*submitted(student)] for student in _students(folder)}
    labs = sorted({one.lab for ones in found.values() for one in ones})
    if not labs:
        raise NotFound(
            f"{folder} holds no submission.\nIn it should be a folder for each student, and in "
            f"that files such as {next(iter(_names()))}, or the notebook of a lab."
        )
    counted = Counter[tuple[str, str]]()
    jobs = [(student, lab.open(name)) for student in sorted(found) for name in labs]
    with open(out, "w", encoding="utf-8", newline="") as file:
        owner = folder.stat()
        os.chown(out, owner.st_uid, owner.st_gid)
        rows = csv.writer(file)
        rows.writerow(COLUMNS)
        for student, ex in tqdm(jobs, unit="check", disable=None):
            cells = _check(student, ex, found[student]).cells()
            counted[cells[1], cells[2]] += 1
            rows.writerow(cells)
            file.flush()  # a long run that is interrupted keeps what it has
    return counted


def _students(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise NotFound(f"There is no folder {folder}.")
    inside = [path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()]
    return sorted(path for path in inside if not path.name.startswith("."))


def _names() -> dict[str, tuple[str, str]]:
    """What a submission may be called: the lab and the dialect of each file name."""
    return {
        ex.folder.name + SUFFIXES[dialect]: (ex.folder.name, dialect)
        for ex in map(lab.open, (folder.name for folder in lab.folders()))
        for part in ex.parts
        for dialect in PARTS[part]
    }


def submitted(student: Path) -> Iterator[Found]:
    """Every file and cell below the folder of a student that is the part of a lab."""
    names, home = _names(), student.resolve()
    for folder, inner, files in os.walk(student):  # which follows no link to a folder
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        for path in (Path(folder, name) for name in sorted(files)):
            if path.name not in names and path.suffix != ".ipynb":
                continue
            if not path.is_file() or not path.resolve().is_relative_to(home):
                continue  # a link to nowhere, a pipe, or a link to what is not the student's
            when = path.stat().st_mtime_ns
            if path.name in names:
                yield Found(*names[path.name], when, path)
            else:
                yield from _cells(path, when)


def _cells(notebook: Path, when: int) -> Iterator[Found]:
    """The cells of a notebook that begin with ``%%bpf lab=`` or ``%%answer lab=``."""
    try:
        with notebook.open("rb") as file:
            cells = json.loads(file.read(NOTEBOOK))["cells"]
        sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    except (OSError, ValueError, RecursionError, LookupError, TypeError):
        return
    for source in sources:
        first, _, text = source.partition("\n")
        if not (head := re.match(r"%%(bpf|answer) lab=(\w+)( bcc)?\s*$", first)):
            continue
        dialect = "python" if head[1] == "answer" else "bcc" if head[3] else "libbpf"
        try:
            name = lab.open(head[2]).folder.name
        except NotFound:
            continue
        when += 1  # the last cell of a notebook counts
        yield Found(name, dialect, when, notebook, text)


def _check(student: str, ex: Lab, found: Sequence[Found]) -> Row:
    """Judge a copy: it has the name that the learner knows, and the original stays as it is."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="check-labs-") as folder:
        try:
            files = [_copy(ex, part, found, Path(folder)) for part in ex.parts]
            result = lab.judge(ex.folder, *files)
        except OSError as error:
            result = NotChecked(f"What was handed in cannot be read: {error.strerror}.")
    return Row(student, ex.folder.name, result, time.monotonic() - started)


def _copy(ex: Lab, part: str, found: Sequence[Found], folder: Path) -> Path:
    """The student's file for that part, in ``folder``; no file is there when they have none."""
    names = {dialect: folder / f"{ex.folder.name}{SUFFIXES[dialect]}" for dialect in PARTS[part]}
    fits = [one for one in found if one.lab == ex.folder.name and one.dialect in names]
    # The newest last. A notebook that was run again after all has the starter in its cell.
    texts = [(names[one.dialect], _content(one)) for one in sorted(fits, key=lambda one: one.when)]
    begun = [
        (name, text) for name, text in texts if not ex._begins(text.decode(errors="replace"), name)
    ]
    for name, text in (begun or texts)[-1:]:
        name.write_bytes(text)
        return name
    return names[PARTS[part][0]]


def _content(found: Found) -> bytes:
    if found.cell is not None:
        return found.cell.encode(errors="replace")
    # Not through a link that has taken the file's place since it was looked at.
    handle = os.open(found.path.resolve(), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(handle, "rb") as file:
        return file.read(lab.LONGEST + 1)  # one byte too many is enough to be refused


def defused(text: str) -> str:
    """The text as a cell of a CSV that a spreadsheet shows, and neither runs nor chokes on."""
    text = text.encode(errors="replace").decode()
    text = "".join(letter for letter in text if letter in "\n\t" or letter.isprintable())
    return (
        f"'{text}" if text.lstrip().startswith(tuple("=+-@＝＋－＠")) or text[:1] == "\t" else text
    )


# --- nbgrader -------------------------------------------------------------------------------


def export_nbgrader(folder: Path) -> list[Path]:
    """Write the source version of an nbgrader course, an assignment a lab; return its files.

    It takes no nbgrader. What students see is the lab's notebook; the cells of their own are
    solution cells, and a last one is graded: it asks the lab's check.

    Raises:
        FileExistsError: something is there that this would replace.

    Source: nbgrader.readthedocs.io, "Creating and grading assignments"; nbgrader/schema.
    """
    texts = {Path("nbgrader_config.py"): CONFIG}
    for ex in (lab.open(one.parent.name) for one in sorted(kernel.ROOT.glob("labs/*/lab.ipynb"))):
        name = ex.folder.name
        texts[Path("source", name, f"{name}.ipynb")] = _assignment(ex)
    if there := [path for path in texts if (folder / path).exists()]:
        raise FileExistsError(f"{folder / there[0]} is there already: name another folder.")
    for path, text in texts.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return [folder / path for path in texts]


def _assignment(ex: Lab) -> str:
    """The lab's notebook with what nbgrader wants to know of its cells."""
    notebook = json.loads((ex.folder / "lab.ipynb").read_text())
    cells = notebook["cells"]
    for cell in cells:
        if cell["cell_type"] == "code":
            cell.update(outputs=[], execution_count=None)
        # The chapters are not beside it.
        cell["source"] = re.sub(r"\[([^]]*)\]\(\.\.[^)]*\)", r"\1", "".join(cell["source"]))
        if found := re.match(r"%%(bpf|answer) lab=", cell["source"]):
            _describe(cell, {"bpf": "program", "answer": "answer"}[found[1]], solution=True)
    setup, grade = _code("setup", SETUP), _code("check", GRADE.format(number=ex.number))
    cells.insert(1, _describe(setup, "setup", locked=True))
    cells.append(_describe(grade, "check", locked=True, grade=True, points=POINTS))
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def _code(name: str, source: str) -> dict[str, Any]:
    cell = {"cell_type": "code", "id": name, "metadata": {}, "source": source}
    return cell | {"outputs": [], "execution_count": None}


def _describe(cell: dict[str, Any], name: str, **its: Any) -> dict[str, Any]:
    known = {"schema_version": 3, "grade_id": name, "task": False}
    cell["metadata"]["nbgrader"] = (
        known | dict.fromkeys(("locked", "solution", "grade"), False) | its
    )
    return cell
