"""``%%bpf``: BPF C in a notebook cell, and ``%%answer``: the Python of a lab.

    %%bpf prog            compile, load, and bind the Program to the name prog
    %%bpf prog bcc        the same, in BCC's dialect
    %%bpf lab=02          save it as the program of lab 02, and see whether it loads
    %%answer lab=01       run the cell's Python here, and save it as the answer of lab 01

``from helpers import lab`` brings both, and names of C behind Tab; so does
``%load_ext helpers.magic``.
"""

import sys
from typing import Any

USAGE = "Write  %%bpf NAME  or  %%bpf lab=NN,  and the word bcc behind it for BCC's dialect."


def bpf(line: str, cell: str) -> Any:
    """Load the cell's C: as a Program under a Python name, or as the program of a lab.

    A name that held a Program before gets the new one; the old one is closed first.

    Raises:
        UsageError: the line is neither of the forms above.
        BpfError: as ``load()``; a lab shows it as feedback instead.
    """
    from IPython.core.error import UsageError

    target, *rest = line.split() or [""]
    dialect = rest[0] if rest else "libbpf"
    if len(rest) > 1 or dialect not in ("libbpf", "bcc"):
        raise UsageError(USAGE)
    if target.startswith("lab="):
        from helpers import lab

        return lab.open(target.removeprefix("lab=")).submit(cell, dialect)
    if not target.isidentifier():
        raise UsageError(USAGE)
    _bind(target, cell, dialect)
    return None


def answer(line: str, cell: str) -> Any:
    """Save the cell's Python as the answer of a lab, and run it here, for the learner to try.

    Raises:
        UsageError: the line is no ``lab=NN``.
    """
    from IPython.core.error import UsageError

    from helpers import lab

    target, _, number = line.strip().partition("=")
    if target != "lab":
        raise UsageError("Write  %%answer lab=NN  in the first line.")
    card = lab.open(number).submit(cell, "python")
    if not isinstance(card, lab.Wrong):
        # An empty line in place of the magic's own: so the editor and Python number lines alike.
        exec(compile(f"\n{cell}", f"answer of lab {number}", "exec"), _shell().user_ns)
    return card


def _bind(name: str, cell: str, dialect: str) -> None:
    from helpers.program import Program, load

    names = _shell().user_ns
    before = names.get(name)
    if isinstance(before, Program):
        before.close()
    # An empty line in place of the magic's own: so the editor and clang number lines alike.
    file = f"{name}.bcc.c" if dialect == "bcc" else f"{name}.bpf.c"
    names[name] = program = load(text=f"\n{cell}", dialect=dialect, name=file)
    print(program)


def _shell() -> Any:
    return sys.modules["IPython"].get_ipython()


def load_ipython_extension(shell: Any) -> None:
    """IPython calls this for ``%load_ext helpers.magic``."""
    from helpers import completion

    completion.bring()
    shell.register_magic_function(bpf, "cell", "bpf")
    shell.register_magic_function(answer, "cell", "answer")
