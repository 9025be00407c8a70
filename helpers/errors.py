"""Every failure that a learner can cause, as a type that says what happened and what to do.

All are ``BpfError``, which is an ``OSError``: ``errno`` and ``errno_name`` hold the kernel's own
word. In a notebook they print as their message alone, without our frames above it.
"""

import contextlib
import errno as _errno
import os
import sys
from collections.abc import Iterator

from helpers.diagnostics import Diagnostic, printable

# Two names for one number in Linux: Python gives the other, the kernel's source this one.
_NAMES = {**_errno.errorcode, _errno.EOPNOTSUPP: "EOPNOTSUPP"}


class BpfError(OSError):
    """A failed BPF operation: a message for the learner, and the kernel's errno (0 if none).

    ``diagnostic`` is the fault in the learner's C, where it was found there: the same words, which
    JupyterLab shows as HTML.
    """

    diagnostic: Diagnostic | None = None
    _shown: int | None = None

    def __init__(self, message: str, errno: int = 0) -> None:
        self.message = printable(message)
        super().__init__(errno, self.message)

    @property
    def errno_name(self) -> str:
        """The errno's C name, such as "E2BIG"; empty when the kernel was not involved."""
        return _NAMES.get(self.errno or 0, "")

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.__dict__, self.errno)

    def _render_traceback_(self) -> list[str]:
        # IPython asks for this instead of printing frames: the message is the whole story.
        shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
        if self.diagnostic and shell and hasattr(shell, "kernel"):  # a notebook, and no terminal
            from IPython.display import display

            if self._shown != shell.execution_count:  # IPython asks more than once
                display(self.diagnostic)
            self._shown = shell.execution_count
            return [f"{type(self).__name__}: {self.message.partition(chr(10))[0]}"]
        return [f"{type(self).__name__}: {self.message}"]


def _rebuild(cls: type[BpfError], state: dict[str, object], errno: int) -> BpfError:
    error = cls.__new__(cls)
    OSError.__init__(error, errno, state["message"])
    error.__dict__.update(state)
    return error


class CompileError(BpfError):
    """clang refused the C: ``text`` holds what it said."""

    def __init__(self, said: Diagnostic | str, text: str = "") -> None:
        super().__init__(str(said))
        self.text = text
        self.diagnostic = said if isinstance(said, Diagnostic) else None


class VerifierError(BpfError):
    """The kernel's verifier refused ``program``: ``log`` holds its whole log."""

    def __init__(self, said: Diagnostic, program: str, errno: int = _errno.EACCES) -> None:
        super().__init__(str(said), errno)
        self.diagnostic, self.program = said, program
        self.log = said.log


class MissingKey(BpfError, KeyError):
    """The key is not in the map (errno ENOENT). Also a ``KeyError``, as a dict would raise."""


class KeyExists(BpfError):
    """``noexist`` was asked for, and the key is already there (errno EEXIST)."""


class MapFull(BpfError):
    """The map refuses a new key: it holds ``max_entries`` already (errno E2BIG)."""


class NotFound(BpfError, LookupError):
    """No map, program, pin or file of that name; the message lists what is there."""


class LayoutError(BpfError, ValueError):
    """A key or value does not fit the C type that the map declares."""


class Closed(BpfError):
    """The program or map was closed, and its file descriptors with it (errno EBADF)."""

    def __init__(self, message: str) -> None:
        super().__init__(message, _errno.EBADF)


class Unsupported(BpfError):
    """This machine lacks something: what is needed, what is here, and how to get it."""

    def __init__(self, need: str, have: str, remedy: str) -> None:
        super().__init__(f"This needs {need}.\nHere: {have}.\n{remedy}", _errno.EOPNOTSUPP)
        self.need, self.have, self.remedy = need, have, remedy


class PermissionNeeded(BpfError, PermissionError):
    """The kernel did not allow it (errno EPERM): what was tried, and how to be allowed."""

    def __init__(self, what: str, remedy: str = "") -> None:
        remedy = remedy or (
            "Start the course with ./course lab: it asks for the rights BPF needs. Or choose a "
            "Linux in\nthe kernel picker, where you have all rights: ./course kernels add 6.1  "
            "fetches it."
        )
        super().__init__(f"You are not allowed to {what} (errno EPERM).\n{remedy}", _errno.EPERM)
        self.remedy = remedy


_EXHAUSTED = {
    _errno.ENOSPC: "The disk is full. What was there before is unchanged.\nFree some room on it; "
    "./course clean  removes what was compiled.",
    _errno.EDQUOT: "Your share of the disk is used up. What was there before is unchanged.\n"
    "Free some of it; ./course clean  removes what was compiled.",
    _errno.EMFILE: "This process has no file descriptor left, and each map, program and file takes "
    "one.\nClose what you loaded, or restart the notebook's kernel;  ulimit -n  is the limit.",
    _errno.ENFILE: "The machine has no file descriptor left.\n"
    "End some programs;  sysctl fs.file-max  is the limit.",
    _errno.ENOMEM: "There is not that much memory left, for this process or its group. "
    "Most maps take that of all\ntheir entries at once.\nLower max_entries, close other maps, or "
    "end other programs.",
}


class Exhausted(BpfError):
    """The machine has no more of something: room on a disk, memory, file descriptors."""

    def __init__(self, what: str, errno: int) -> None:
        super().__init__(f"Cannot {what} (errno {describe(errno)}).\n{_EXHAUSTED[errno]}", errno)


def check_exhausted(what: str, errno: int) -> None:
    """Raise ``Exhausted`` if that is what an answer of bpf(2) means. ENOSPC there is no disk."""
    if errno in _EXHAUSTED and errno not in (_errno.ENOSPC, _errno.EDQUOT):
        raise Exhausted(what, errno)


def check_said(what: str, said: str) -> None:
    """Raise ``Exhausted`` if that is what a compiler, or another program, says."""
    for number in _EXHAUSTED:
        if os.strerror(number) in said:
            raise Exhausted(what, number)


@contextlib.contextmanager
def exhaustion_told(what: str) -> Iterator[None]:
    """Whatever the block, or the function that this decorates, runs out of is told in words."""
    try:
        yield
    except BpfError:
        raise
    except OSError as error:
        where = f", at {error.filename}" if error.filename else ""
        if error.errno in _EXHAUSTED:
            raise Exhausted(what + where, error.errno) from None
        raise


def describe(errno: int) -> str:
    """The errno as people meet it: ``E2BIG, "Argument list too long"``."""
    return f'{_NAMES.get(errno, str(errno))}, "{os.strerror(errno)}"'
