"""Labs: exercises that are checked by what the learner's own program does in the kernel.

    ex = lab.open("02")
    ex.check()

A lab is a folder ``labs/NN_topic/`` with a ``lab.py``, in which one subclass of ``Lab`` has a
title, hints, and ``verify()``: a fresh random workload whose truth it knows. Everything else is
here. The learner's own code lies in ``work/``, which no update of the course touches.
"""

import hashlib
import html
import importlib.util
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers import kernel
from helpers.btf import Layout
from helpers.errors import (
    BpfError,
    CompileError,
    NotFound,
    PermissionNeeded,
    Unsupported,
    VerifierError,
)
from helpers.maps import BpfMap
from helpers.program import Program, load

SUFFIXES = {"libbpf": ".bpf.c", "bcc": ".bcc.c"}


# --- what a learner reads -------------------------------------------------------------------


@dataclass(frozen=True)
class Card:
    """A short text for the learner: HTML in JupyterLab, the same words as text elsewhere.

    ``said`` states a fact, ``ask`` asks what follows from it, ``listing`` is shown as it is.
    Words between backquotes are code.
    """

    said: str
    ask: str = ""
    listing: str = ""
    title: str = ""
    colour = "var(--jp-info-color1, #1976d2)"

    def __repr__(self) -> str:
        head = f"{self.title} {self.said}".strip()
        return "\n".join(part for part in (head, self.ask, self.listing) if part)

    def _repr_html_(self) -> str:
        title = f"<b>{html.escape(self.title)}</b> " if self.title else ""
        body = f"<div>{title}{_prose(self.said)}</div>"
        if self.ask:
            body += f'<div style="margin-top: .5em">{_prose(self.ask)}</div>'
        if self.listing:
            body += f'<pre style="margin-top: .5em">{html.escape(self.listing)}</pre>'
        style = f"border-left: .3em solid {self.colour}; padding: .2em 1em"
        return f'<div style="{style}">{body}</div>'


def _prose(text: str) -> str:
    code = re.sub(r"`([^`]*)`", r"<code>\1</code>", html.escape(text))
    return code.replace("\n", "<br>")


class Result(Card):
    """The outcome of a check: plain data, the same in whatever process the check ran."""


@dataclass(frozen=True, repr=False)
class NotAttempted(Result):
    """There is no program yet, or only the starter."""

    title: str = "Not attempted."


@dataclass(frozen=True, repr=False)
class Wrong(Result):
    """The program does not do what the lab asks for: ``said`` is what was seen."""

    title: str = "Not yet."
    colour = "var(--jp-warn-color1, #b26a00)"


@dataclass(frozen=True, repr=False)
class Right(Result):
    """The program did all that the lab asks for: ``said`` is what was tried."""

    title: str = "Right."
    colour = "var(--jp-success-color1, #2e7d32)"


@dataclass(frozen=True, repr=False)
class NotChecked(Result):
    """This machine could not check the program, which says nothing about the program."""

    title: str = "Not checked."


class NotYet(Exception):
    """What ``verify()`` raises for a program that is wrong.

    ``seen``: what was sent and what was found, with numbers. ``idea``: the question whose answer
    is the lesson, never the line of code.
    """

    def __init__(self, seen: str, idea: str) -> None:
        super().__init__(seen)
        self.seen, self.idea = seen, idea


# --- a lab ----------------------------------------------------------------------------------


class Lab:
    """One exercise. Its ``lab.py`` subclasses this, and says what is declared here.

    ``hints`` lead on in three steps. ``flags`` are for clang, when a check compiles the program.
    """

    title: str
    hints: Sequence[str]
    flags: Sequence[str] = ()

    def verify(self, prog: Program) -> str:
        """Drive the loaded ``Program`` and look at what it did; return what held, in a sentence.

        Raises:
            NotYet: it did something else than the lab asks for.
        """
        raise NotImplementedError

    def __init__(self, folder: Path) -> None:
        self.folder, self.number = folder, folder.name.partition("_")[0]
        self._hints_given, self._asked = 0, False

    # --- for the learner

    @property
    def file(self) -> Path:
        """The learner's program, in the dialect that was saved last; it may not exist yet."""
        files = [self._file(dialect) for dialect in SUFFIXES]
        there = [file for file in files if file.exists()]
        return max(there, key=lambda file: file.stat().st_mtime_ns, default=files[0])

    def check(self, path: str | os.PathLike[str] | None = None) -> Result:
        """Check the learner's program, or the one in the file ``path``."""
        if path is not None:
            return self.check_file(path)
        result = self.check_file(self.file)
        if isinstance(result, Right | Wrong):
            _remember(self.folder.name, _digest(self.file), isinstance(result, Right))
        return result

    def check_file(self, path: str | os.PathLike[str]) -> Result:
        """Check any file, whoever wrote it; nothing is remembered of it."""
        return judge(self.folder, Path(path))

    def hint(self) -> Card:
        """The next hint; the last one again when there are no more."""
        count = len(self.hints)
        self._hints_given = number = min(self._hints_given + 1, count)
        more = "" if number < count else "That was the last. `ex.solution()` shows whole programs."
        return Card(self.hints[number - 1], more, title=f"Hint {number} of {count}.")

    def solution(self, number: int = 1) -> Card:
        """Ask once, and from the second call on show the solution of that number."""
        files = self.solutions()
        about = [
            file.read_text().partition("\n")[0].removeprefix("// solution: ") for file in files
        ]
        if not self._asked or not 1 <= number <= len(files):
            self._asked = True
            return Card(
                f"There are {len(files)}. Call `ex.solution(1)` to read the first.",
                "Each passes the check; they differ in kind. Yours need not look like any of them.",
                "\n".join(f"{i}. {line}" for i, line in enumerate(about, 1)),
                title="Show a solution?",
            )
        _, _, listing = files[number - 1].read_text().partition("\n")
        title = f"Solution {number} of {len(files)}:"
        return Card(f"{about[number - 1]}.", listing=listing.strip(), title=title)

    def reset(self) -> Card:
        """Begin again with the starter. What the learner wrote is kept."""
        kept = [self._keep(file) for file in map(self._file, SUFFIXES) if file.exists()]
        self._file("bcc").unlink(missing_ok=True)
        _write(self._file("libbpf"), self._starters()[0].read_text())
        was = ", ".join(f"`{shown(path)}`" for path in kept)
        return Card(
            f"`{shown(self.file)}` is the starter again.",
            f"What was there before is in {was}." if kept else "",
            title="Reset.",
        )

    def submit(self, text: str, dialect: str = "libbpf") -> Card:
        """Save ``text`` as the learner's program, then compile it and put it to the verifier.

        The starter never takes the place of a program: whoever runs a whole notebook again has
        the starter in its cell, and their own work in the file.
        """
        file = self.file
        if self._begins(text) and not self._begins(_read(file)):
            return Card(
                f"This cell holds the starter, and `{shown(file)}` a program: it was left alone.",
                "Paste your program here to go on with it, or begin again with `ex.reset()`.",
                title="Kept.",
            )
        file = self._file(dialect)
        if file.exists() and _read(file) != text:
            self._keep(file)
        _write(file, text)
        return _guarded(lambda: self._try(file))

    def _try(self, file: Path) -> Card:
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
        return Card(
            f"{self.title}. Your program: `{shown(self._file('libbpf'))}`",
            "`ex.check()` `ex.hint()` `ex.solution()` `ex.reset()` `lab.progress()`",
            title=f"Lab {self.number}:",
        )

    # --- its files

    def solutions(self) -> list[Path]:
        """The right answers in the lab's folder, the plainest first."""
        return sorted(self.folder.glob("solutions/*.c"))

    def wrongs(self) -> list[Path]:
        """The wrong ones, each with words of its feedback in its first line."""
        return sorted(self.folder.glob("wrong/*.c"))

    def _starters(self) -> list[Path]:
        return sorted(self.folder.glob("starter.*.c"), reverse=True)  # libbpf's first

    def _file(self, dialect: str) -> Path:
        return work() / f"{self.folder.name}{SUFFIXES[dialect]}"

    def _begins(self, text: str) -> bool:
        """Is this where everybody begins: nothing, or the starter with other comments?"""
        return _essence(text) in {"", *(_essence(file.read_text()) for file in self._starters())}

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
    for folder in _folders():
        if folder.name.startswith(f"{number}_"):
            return _lab(folder)
    raise NotFound(
        f"There is no lab {name!r}.\nThe labs: {', '.join(f.name for f in _folders()) or 'none'}."
    )


def judge(folder: Path, file: Path) -> Result:
    """Load ``file`` and put it to the test of the lab in ``folder``.

    All that a check does with a learner's program happens in here: two paths go in, plain data
    comes out.
    """
    ex = _lab(folder)
    if not file.is_file():
        return NotAttempted(
            f"There is no `{shown(file)}` yet.",
            f"Run the cell that begins with `%%bpf lab={ex.number}`: it saves your program there.",
        )

    def run() -> Result:
        if ex._begins(_read(file)):
            return NotAttempted(
                f"`{shown(file)}` holds what everybody begins with.",
                "Its comments say where to go on. `ex.hint()` gives a first idea.",
            )
        with load(file, flags=ex.flags) as prog:
            return Right(ex.verify(prog))

    return _guarded(run)


def _guarded(run: Callable[[], Any]) -> Any:
    """Run it; whatever goes wrong becomes a Result in words, never a traceback of ours."""
    try:
        return run()
    except NotYet as wrong:
        return Wrong(wrong.seen, wrong.idea)
    except (Unsupported, PermissionNeeded) as error:
        return NotChecked(error.message)
    except VerifierError as error:
        return Wrong("The kernel's verifier refuses your program.", listing=error.message)
    except CompileError as error:
        head, _, rest = error.message.partition("\n")
        return Wrong(head, listing=rest)
    except BpfError as error:
        return Wrong(error.message)
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


def _folders() -> list[Path]:
    return sorted(path.parent for path in kernel.ROOT.glob("labs/*_*/lab.py"))


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
        return "\n".join(
            f"{number}  {title:{width}}  {state}" for number, title, state in self.rows
        )

    def _repr_html_(self) -> str:
        rows = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
            for row in self.rows
        )
        return f"<table><tr><th>lab</th><th></th><th>state</th></tr>{rows}</table>"


def progress() -> Progress:
    """How far the learner is: the last check of each lab, as long as the program is the same."""
    checked = _checked()
    return Progress([(ex.number, ex.title, _state(ex, checked)) for ex in map(_lab, _folders())])


def _state(ex: Lab, checked: dict[str, Any]) -> str:
    if ex._begins(_read(ex.file)):
        return "not attempted"
    last = checked.get(ex.folder.name)
    if not isinstance(last, dict):
        return "not checked yet"
    if last.get("digest") != _digest(ex.file):
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


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _bring_magic() -> None:
    """In a notebook, ``from helpers import lab`` is all that ``%%bpf`` needs."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is not None:
        from helpers.magic import load_ipython_extension

        load_ipython_extension(shell)


_bring_magic()
