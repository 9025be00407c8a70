"""Labs: exercises that are checked by what the learner's own program does in the kernel.

    ex = lab.open("02")
    ex.check()

A lab is a folder ``labs/NN_topic/`` with a ``lab.py``, in which one subclass of ``Lab`` has a
title, hints, and ``verify()``: a fresh random workload whose truth it knows. Everything else is
here. The learner's own code lies in ``work/``, which no update of the course touches.

A check runs in a process of its own, with a BPF file system of its own, so that neither a program
nor a check can harm the notebook, or leave anything; the learner's Python is contained further
(``helpers.answers``).
"""

import ast
import ctypes
import hashlib
import importlib.util
import json
import os
import re
import resource
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from helpers import cards, kernel
from helpers.answers import Answer, Raised
from helpers.btf import Layout
from helpers.cards import Card, NotAttempted, NotChecked, NotYet, Result, Right, Wrong
from helpers.diagnostics import as_html, printable
from helpers.errors import (
    BpfError,
    Exhausted,
    NotFound,
    PermissionNeeded,
    Unsupported,
    VerifierError,
    exhaustion_told,
)
from helpers.maps import BpfMap
from helpers.program import Program, load
from helpers.sandbox import with_own_pins

SUFFIXES = {"libbpf": ".bpf.c", "bcc": ".bcc.c", "python": ".py"}
PARTS = {"program": ("libbpf", "bcc"), "answer": ("python",)}
SECONDS = kernel.patience(60)  # that a check may take
LARGEST = 64 << 20  # bytes of a file that it, or a compiler for it, may write
MEMORY = 4 << 30  # bytes of addresses of each
LONGEST = 1 << 20  # bytes of a program
NOT_PYTHON = SyntaxError, ValueError, RecursionError, MemoryError  # the latter: nested too deep

# Flags for clang, for a check of what two CPUs do at once. Less than a µs goes by between a lookup
# that finds nothing and an insertion, so they rarely meet there: insertions wait for some µs. And
# who has added atomically has the cache line to itself for a moment, in which a plain addition
# beside it loses nothing on many machines: atomic additions wait for a moment, too.
DAWDLE = (
    "-Dbpf_map_update_elem(...)=({ for (int i = 0; i < 1023 && bpf_get_prandom_u32() & 511; i++); "
    "bpf_map_update_elem(__VA_ARGS__); })",
    "-D__sync_fetch_and_add(...)=({ __auto_type was = __sync_fetch_and_add(__VA_ARGS__); "
    "for (int i = 0; i < 255 && bpf_get_prandom_u32() & 1; i++); was; })",
)


# --- a lab ----------------------------------------------------------------------------------


class Lab:
    """One exercise. Its ``lab.py`` subclasses this, and says what is declared here.

    ``hints`` lead on in three steps. ``parts`` are what the learner writes: a program in C, an
    answer in Python, or both. ``flags`` are for clang, when a check compiles the program.

    ``verify(*parts)`` drives what it is given, looks at what that did, and returns what held, in
    a sentence; it raises ``NotYet`` for what is wrong. It is given a loaded ``Program`` for a
    program (its path, if ``loads`` is False) and an ``Answer`` for an answer.
    """

    title: str
    hints: Sequence[str]
    parts: Sequence[str] = ("program",)
    flags: Sequence[str] = ()
    loads = True
    verify: Callable[..., str]

    def __init__(self, folder: Path) -> None:
        self.folder, self.number = folder, folder.name.partition("_")[0]
        self._hints_given, self._asked = 0, False

    # --- for the learner

    @property
    def file(self) -> Path:
        """The learner's program, or answer where there is no program; it may not exist yet.

        Of the two dialects, it is the one that was saved last.
        """
        return self.files[0]

    @property
    def files(self) -> list[Path]:
        """The learner's file for each part."""
        return [_latest([self._file(dialect) for dialect in PARTS[part]]) for part in self.parts]

    @exhaustion_told("check the lab")
    def check(self, path: str | os.PathLike[str] | None = None) -> Result:
        """Check what the learner wrote, or the file ``path`` and those that belong to it."""
        if path is not None:
            return self.check_file(path)
        result = judge(self.folder, *self.files)
        if isinstance(result, Right | Wrong):
            _remember(self.folder.name, _digest(self.files), isinstance(result, Right))
        return result

    def check_file(self, path: str | os.PathLike[str]) -> Result:
        """Check any file, whoever wrote it; nothing is remembered of it.

        The other part, where there is one, is the file of the same name beside it; of the lab's
        own programs that have none, the first solution's.
        """
        return judge(self.folder, *self._together(Path(path)))

    def hint(self) -> Card:
        """The next hint; the last one again when there are no more."""
        count = len(self.hints)
        self._hints_given = number = min(self._hints_given + 1, count)
        more = "" if number < count else "That was the last. `ex.solution()` shows whole programs."
        return Card(self.hints[number - 1], more, title=f"Hint {number} of {count}.")

    def solution(self, number: int = 1) -> Card:
        """Ask once, and from the second call on show the solution of that number."""
        files = self.solutions()
        about = [_about(file) for file in files]
        if not self._asked or not 1 <= number <= len(files):
            self._asked = True
            return Card(
                f"There are {len(files)}. Call `ex.solution(1)` to read the first.",
                "Each passes the check; they differ in kind. Yours need not look like any of them.",
                "\n".join(f"{i}. {line}" for i, line in enumerate(about, 1)),
                title="Show a solution?",
            )
        parts = [_without_first(file) for file in self._together(files[number - 1])]
        title = f"Solution {number} of {len(files)}:"
        return Card(f"{about[number - 1]}.", listing="\n\n".join(parts), title=title)

    @exhaustion_told("begin the lab again")
    def reset(self) -> Card:
        """Begin again with the starter. What the learner wrote is kept."""
        dialects = [dialect for part in self.parts for dialect in PARTS[part]]
        there = [file for file in map(self._file, dialects) if file.exists()]
        kept = [self._keep(file) for file in there]
        fresh = [self._file(PARTS[part][0]) for part in self.parts]
        for file in fresh:
            _write(file, self._starters(file)[0].read_text())
        for file in {*there} - {*fresh}:
            file.unlink()
        was = ", ".join(f"`{shown(path)}`" for path in kept)
        now = " and ".join(f"`{shown(file)}`" for file in fresh)
        return Card(
            f"{now} {'is' if len(fresh) == 1 else 'are'} the starter again.",
            f"What was there before is in {was}." if kept else "",
            title="Reset.",
        )

    @exhaustion_told("save your program")
    def submit(self, text: str, dialect: str = "libbpf") -> Card:
        """Save ``text`` as the learner's program or answer, and see whether it compiles.

        A program is put to the verifier as well. The starter never takes the place of a program:
        whoever runs a whole notebook again has the starter in its cell, and their own work in the
        file.
        """
        file = self._file(dialect)
        part = next(name for name, dialects in PARTS.items() if dialect in dialects)
        there = _latest([self._file(one) for one in PARTS[part]])
        if self._begins(text, file) and not self._begins(_read(there), there):
            return Card(
                f"This cell holds the starter, and `{shown(there)}` a program: it was left alone.",
                "Paste your program here to go on with it, or begin again with `ex.reset()`.",
                title="Kept.",
            )
        if file.exists() and _read(file) != text:
            self._keep(file)
        _write(file, text)
        # libbpf pins a map that is declared so, by its name alone; trying must leave nothing.
        return _guarded(lambda: with_own_pins(lambda: self._try(file)))

    def _try(self, file: Path) -> Card:
        if file.suffix == ".py":
            _compile_python(file)
            return Card(f"`{shown(file)}` is Python that compiles.", title="Saved.")
        with load(file) as prog:
            programs = ", ".join(f"`{name}`" for name in prog.programs) or "none"
            maps = ", ".join(f"`{name}`" for name in prog.maps) or "none"
            return Card(
                f"`{shown(file)}` compiles, and the kernel's verifier accepts it.",
                f"Programs: {programs}. Maps: {maps}.",
                title="Saved.",
            )

    def __repr__(self) -> str:
        return repr(self._card())

    def _repr_html_(self) -> str:
        return self._card()._repr_html_()

    def _card(self) -> Card:
        files = [self._file(PARTS[part][0]) for part in self.parts]
        return Card(
            f"{self.title}. Your code: {' and '.join(f'`{shown(file)}`' for file in files)}",
            "`ex.check()` `ex.hint()` `ex.solution()` `ex.reset()` `lab.progress()`",
            title=f"Lab {self.number}:",
        )

    # --- its files

    def solutions(self) -> list[Path]:
        """The right answers in the lab's folder, the plainest first: one file for each."""
        return self._mains("solutions")

    def wrongs(self) -> list[Path]:
        """The wrong ones, each with words of its feedback in its first line."""
        return self._mains("wrong")

    def _mains(self, folder: str) -> list[Path]:
        """Of the files of one name, that of the first part."""
        found = dict[str, Path]()
        for part in self.parts:
            for dialect in PARTS[part]:
                for file in self.folder.glob(f"{folder}/*{SUFFIXES[dialect]}"):
                    found.setdefault(_stem(file), file)
        return [found[stem] for stem in sorted(found)]

    def _together(self, path: Path) -> list[Path]:
        """For each part, the file of it that goes with ``path``."""
        return [path if part == _part(path) else self._other(path, part) for part in self.parts]

    def _other(self, path: Path, part: str) -> Path:
        suffixes = [SUFFIXES[dialect] for dialect in PARTS[part]]
        beside = [path.with_name(_stem(path) + suffix) for suffix in suffixes]
        first = [
            file
            for suffix in suffixes
            for file in sorted(self.folder.glob(f"solutions/*{suffix}"))
            if path.is_relative_to(self.folder)
        ]
        return next(filter(Path.exists, [*beside, *first]), beside[0])

    def _starters(self, file: Path) -> list[Path]:
        """The starters of the part that ``file`` is of, libbpf's first."""
        found = self.folder.glob("starter.*")
        return sorted((one for one in found if _part(one) == _part(file)), reverse=True)

    def _file(self, dialect: str) -> Path:
        return work() / f"{self.folder.name}{SUFFIXES[dialect]}"

    def _begins(self, text: str, file: Path) -> bool:
        """Is this where everybody begins: nothing, or the starter with other comments?"""
        essence = _python_essence if file.suffix == ".py" else _essence
        begun = {essence(starter.read_text()) for starter in self._starters(file)}
        return essence(text) in {essence(""), *begun}

    def _keep(self, file: Path) -> Path:
        """Copy the file into work/history/, under the next number."""
        stem, suffix = self.folder.name, file.name.removeprefix(self.folder.name)
        history = work() / "history"
        number = 1 + len([*history.glob(f"{stem}.*")])
        while (copy := history / f"{stem}.{number:03}{suffix}").exists():
            number += 1
        _write(copy, _read(file))
        return copy


def open(name: str | int) -> Lab:
    """The lab of that number: ``lab.open("02")``.

    Raises:
        NotFound: there is none; the message lists those that there are.
    """
    number = str(name).partition("_")[0].zfill(2)
    for folder in folders():
        if folder.name.startswith(f"{number}_"):
            return _lab(folder)
    raise NotFound(
        f"There is no lab {name!r}.\nThe labs: {', '.join(f.name for f in folders()) or 'none'}."
    )


# --- a check --------------------------------------------------------------------------------


def judge(folder: Path, *files: Path) -> Result:
    """Put ``files``, one for each part, to the test of the lab in ``folder``.

    That is done by a process of its own, which sees a BPF file system of its own and has
    ``SECONDS`` of time. Paths go in, and plain data comes out.
    """
    ex = _lab(folder)
    for part, file in zip(ex.parts, files, strict=True):
        if not file.is_file():
            magic = "answer" if part == "answer" else "bpf"
            return NotAttempted(
                f"There is no `{shown(file)}` yet.",
                f"Run the cell that begins with `%%{magic} lab={ex.number}`: it saves your "
                f"{part} there.",
            )
        if (size := file.stat().st_size) > LONGEST:
            return Wrong(
                f"`{shown(file)}` has {size:,} bytes, and none of more than {LONGEST:,} is read.",
                "Is that the file that you wrote?",
            )
        if ex._begins(_read(file), file):
            return NotAttempted(
                f"`{shown(file)}` holds what everybody begins with.",
                "Its comments say where to go on. `ex.hint()` gives a first idea.",
            )
    return _elsewhere(folder, files)


def _elsewhere(folder: Path, files: Sequence[Path]) -> Result:
    """Run ``judge_here`` in another process, and wait for what it says."""
    job = json.dumps([str(path.resolve()) for path in (folder, *files)])
    code = "from helpers import lab; lab._answer_for_another()"
    command = [sys.executable, "-c", code, job]
    if os.geteuid() == 0:
        private = f'mount -t bpf -o mode=1777 bpf {kernel.BPFFS} && exec "$@"'
        command = ["unshare", "--mount", "--", "sh", "-c", private, "sh", *command]
    # Should a program's maps use up the memory, then let the kernel end this process, and no other.
    command = ["choom", "-n", "1000", "--", *command]
    path = str(Path(__file__).resolve().parent.parent)
    with (
        tempfile.TemporaryDirectory() as scratch,
        # In memory: what a check says of a full disk must not need room on it.
        os.fdopen(os.memfd_create("said"), "w+") as said,
        os.fdopen(os.memfd_create("errors"), "w+") as errors,
    ):
        its = {"PYTHONPATH": path, "TMPDIR": scratch, "BPF_COURSE_RESULT": str(said.fileno())}
        process = subprocess.Popen(
            command,
            env=os.environ | its,
            pass_fds=[said.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            start_new_session=True,
        )
        try:
            done = _ends(process.pid)
        finally:
            # With what it started; before wait(), since afterwards the number may be another's.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if not done:
            return Wrong(
                f"The check was not done after {SECONDS} s, and was stopped.",
                "What in your program can take that long, or come to no end?",
            )
        said.seek(0)
        errors.seek(0)
        if answer := said.read():
            return cards.result(json.loads(answer))
        return NotChecked(
            f"The check ended with exit code {process.returncode}, and said no more.",
            "That is a fault of the course, or of this machine, not of your program.",
            errors.read()[-2000:].strip(),
        )


def _ends(pid: int) -> bool:
    """Wait ``SECONDS`` for the end of a child, which keeps its number: that is for ``wait()``."""
    ended = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(ended, select.POLLIN)
        return bool(poll.poll(SECONDS * 1000))
    finally:
        os.close(ended)


def _answer_for_another() -> None:
    """What the process of a check does: its last argument is the job, its result goes to a file."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: when the notebook's kernel dies
    if os.getppid() != parent:
        return
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST, LARGEST))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    folder, *files = map(Path, json.loads(sys.argv[-1]))
    result = judge_here(folder, *files)
    os.write(int(os.environ["BPF_COURSE_RESULT"]), json.dumps(result.as_dict()).encode())


def judge_here(folder: Path, *files: Path) -> Result:
    """Judge in this process: for tests of a lab's ``verify()``."""
    ex = _lab(folder)

    def run() -> Result:
        with ExitStack() as stack:
            given = [stack.enter_context(_ready(ex, file, files)) for file in files]
            return Right(ex.verify(*given))

    return _guarded(run)


def _ready(ex: Lab, file: Path, files: Sequence[Path]) -> Any:
    if _part(file) == "answer":
        _compile_python(file)
        return Answer(file, *files)
    return load(file, flags=ex.flags) if ex.loads else _Shown(file)


class _Shown:
    """A path as a context manager."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None:
        pass


def _compile_python(file: Path) -> None:
    text = _read(file)
    try:
        compile(text, str(file), "exec")
    except NOT_PYTHON as error:
        line = getattr(error, "lineno", None)
        place = f"{file.name}:{line}" if line else file.name
        code = (getattr(error, "text", None) or "").strip()
        raise NotYet(
            f"{place} is no Python: {getattr(error, 'msg', error)}.",
            f"What is missing in, or just before, `{code}`?" if code else "",
        ) from None


def _guarded(run: Callable[[], Any]) -> Any:
    """Run it; whatever goes wrong becomes a Result in words, never a traceback of ours."""
    try:
        return run()
    except NotYet as wrong:
        return Wrong(wrong.seen, wrong.idea)
    except Raised as raised:
        return Wrong(
            f"`{raised.where}` raised {str(raised).rstrip('.')}.",
            "Call your function yourself, in a cell, and look at what it is given.",
        )
    except (Unsupported, PermissionNeeded, Exhausted) as error:
        return NotChecked(error.message)
    except VerifierError as error:
        said = "The kernel's verifier refuses your program."
        return Wrong(said, listing=error.message, fault=error.diagnostic)
    except BpfError as error:
        if not error.diagnostic:
            return Wrong(error.message)
        head, _, rest = error.message.partition("\n")
        return Wrong(head, listing=rest, fault=error.diagnostic)
    except UnicodeError:
        return Wrong("The file holds bytes that are no text in UTF-8.")
    except Exception as error:
        return NotChecked(
            f"The check itself failed: {type(error).__name__}: {error}",
            "That is a fault of the course, not of your program: please report it.",
        )


# --- what most checks begin with ------------------------------------------------------------


def the_program(prog: Program, kind: str) -> str:
    """The name of the one function of that type ("xdp", say), whatever the learner called it.

    Raises:
        NotYet: there is none, or more than one.
    """
    names = [name for name, its in prog.kinds.items() if its == kind]
    if len(names) == 1:
        return names[0]
    have = ", ".join(f"`{name}` of type {its}" for name, its in prog.kinds.items()) or "none"
    raise NotYet(
        f"One program of type {kind} is needed, and yours are: {have}.",
        'What tells the kernel which type a program is? In libbpf\'s dialect it is `SEC("…")`, in '
        "BCC's the type of its argument.",
    )


def the_map(prog: Program, name: str, key: dict[str, int], value: dict[str, int]) -> BpfMap:
    """The map of that name, once its key and value have these fields, of at least so many bytes.

    What the C calls its structs, and what else is in them, is the learner's business.

    Raises:
        NotYet: no such map, or a field is missing or narrower.
    """
    if name not in prog:
        names = ", ".join(f"`{one}`" for one in prog.maps) or "none"
        raise NotYet(
            f"Your program has no map `{name}`. Its maps: {names}.",
            "Whoever reads a map finds it by its name. Where is yours declared, and as what?",
        )
    found = prog[name]
    same = "Without them, which entries that should be two would be one?"
    _fields(f"key of `{name}`", found.key, key, same)
    blind = "Without them, what can nobody tell who reads the map?"
    _fields(f"value of `{name}`", found.value, value, blind)
    return found


def _fields(what: str, layout: Layout, wanted: dict[str, int], idea: str) -> None:
    example = layout.decode(bytes(layout.size))
    have = ", ".join(getattr(example, "_fields", ())) or "none"
    missing = [field for field in wanted if not isinstance(getattr(example, field, None), int)]
    if missing:
        raise NotYet(
            f"The {what} is of type {layout.ctype}. Its fields: {have}. Missing: "
            f"{', '.join(missing)}.",
            idea,
        )
    for field, _, size in layout.fields:
        if size < wanted.get(field, 0):
            raise NotYet(
                f"In the {what}, `{field}` has {size} bytes, and the task gives it "
                f"{wanted[field]}.",
                f"What becomes of a number of {8 * size} bits that grows beyond "
                f"{(1 << 8 * size) - 1:,}?",
            )


# --- finding labs ---------------------------------------------------------------------------


def _lab(folder: Path) -> Lab:
    spec = importlib.util.spec_from_file_location(f"labs.{folder.name}", folder / "lab.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    kinds = [one for one in vars(module).values() if isinstance(one, type) and issubclass(one, Lab)]
    kind = next(one for one in kinds if one.__module__ == module.__name__)
    return kind(folder)


def folders() -> list[Path]:
    """The folders of all labs, in the order of their numbers."""
    return sorted(path.parent for path in kernel.ROOT.glob("labs/*_*/lab.py"))


def _stem(file: Path) -> str:
    return next(file.name.removesuffix(end) for end in SUFFIXES.values() if file.name.endswith(end))


def _part(file: Path) -> str:
    return "answer" if file.suffix == ".py" else "program"


def _about(file: Path) -> str:
    """What the first line of a solution says of it."""
    return file.read_text().partition("\n")[0].lstrip("/# ").removeprefix("solution: ")


def _without_first(file: Path) -> str:
    first, _, rest = file.read_text().partition("\n")
    return (rest if re.match(r"(//|#) (solution|expect): ", first) else f"{first}\n{rest}").strip()


def _latest(files: Sequence[Path]) -> Path:
    """The file that was written last, or the first when none is there."""
    there = [file for file in files if file.exists()]
    return max(there, key=lambda file: file.stat().st_mtime_ns, default=files[0])


def _python_essence(text: str) -> str:
    """Python without its comments and layout; the text itself when it does not parse."""
    try:
        return ast.dump(ast.parse(text))
    except NOT_PYTHON:
        return text


def _essence(text: str) -> str:
    """C without its comments and white space: two texts that differ in no more are the same."""
    tokens = re.sub(r'("(?:\\.|[^"\\\n])*")|//[^\n]*|/\*.*?(?:\*/|$)', r"\1", text, flags=re.S)
    return re.sub(r"\s+", "", tokens)


# --- the learner's folder -------------------------------------------------------------------


def work() -> Path:
    """The folder of the learner's own code; ``BPF_COURSE_WORK`` names another one."""
    return Path(os.environ.get("BPF_COURSE_WORK") or kernel.ROOT / "work").resolve()


def shown(path: Path) -> str:
    """The path as the learner knows it: ``work/02_connection_table.bpf.c``."""
    home, path = work().parent, path.resolve()
    return str(path.relative_to(home)) if path.is_relative_to(home) else path.name


def _read(file: Path) -> str:
    """The text of a learner's file; empty when there is none."""
    if not file.exists():
        return ""
    return file.read_bytes().decode(errors="surrogateescape")


def _write(file: Path, text: str) -> None:
    for folder in (work(), file.parent):
        if not folder.is_dir():
            folder.mkdir(parents=True)
            _hand_over(folder)
    kernel.write_atomically(file, text.encode(errors="surrogateescape"))
    file.chmod(0o644)
    _hand_over(file)


def _hand_over(path: Path) -> None:
    """What root writes for the learner belongs to whom the course belongs."""
    if os.geteuid() == 0:
        owner = kernel.ROOT.stat()
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


# --- progress -------------------------------------------------------------------------------


class Progress:
    """A row a lab: number, title, state."""

    def __init__(self, rows: list[tuple[str, str, str]]) -> None:
        self.rows = rows

    def __repr__(self) -> str:
        width = max((len(title) for _, title, _ in self.rows), default=0)
        lines = (f"{number}  {title:{width}}  {state}" for number, title, state in self.rows)
        return printable("\n".join(lines))

    def _repr_html_(self) -> str:
        rows = "".join(
            "<tr>" + "".join(f"<td>{as_html(cell)}</td>" for cell in row) + "</tr>"
            for row in self.rows
        )
        return f"<table><tr><th>lab</th><th></th><th>state</th></tr>{rows}</table>"


def progress() -> Progress:
    """How far the learner is: the last check of each lab, as long as the program is the same."""
    checked = _checked()
    return Progress([(ex.number, ex.title, _state(ex, checked)) for ex in map(_lab, folders())])


def _state(ex: Lab, checked: dict[str, Any]) -> str:
    if any(ex._begins(_read(file), file) for file in ex.files):
        return "not attempted"
    last = checked.get(ex.folder.name)
    if not isinstance(last, dict):
        return "not checked yet"
    if last.get("digest") != _digest(ex.files):
        return "changed since its last check"
    return "right" if last.get("right") else "not yet"


def _checked() -> dict[str, Any]:
    try:
        known = json.loads((work() / "progress.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _remember(name: str, digest: str, right: bool) -> None:
    known = _checked() | {name: {"digest": digest, "right": right}}
    _write(work() / "progress.json", json.dumps(known, indent=1, sort_keys=True) + "\n")


def _digest(files: Sequence[Path]) -> str:
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


def _bring_magic() -> None:
    """In a notebook, ``from helpers import lab`` is all that ``%%bpf`` needs."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is not None:
        from helpers.magic import load_ipython_extension

        load_ipython_extension(shell)


_bring_magic()
