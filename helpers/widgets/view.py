"""What all live widgets share: HTML that Python writes from what the kernel holds, in the page.

A view looks at its map some times a second, in a thread of its own, and sends its HTML when that
has changed. What a learner does in the page comes back as an action, by name. The page's half
(view.js) knows nothing of maps; colours and fonts are JupyterLab's own (view.css).
"""

import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from html import escape
from pathlib import Path
from typing import Any, ClassVar

from helpers.diagnostics import printable
from helpers.errors import BpfError, Closed

HERE = Path(__file__).parent
_shown: dict[str, list["View"]] = {}  # by the id of the notebook's cell


class View:
    """A live picture of something in the kernel, with a text form.

    It is looked at every ``every`` seconds once it is shown, until ``close()``, until its cell is
    run again, or until the program behind it is closed; what was seen last then stays.
    """

    every: ClassVar[float] = 0.25

    def __init__(self) -> None:
        self._page: Any = None
        self._seen = self._problem = ""
        self._ended = threading.Event()
        self._lock = threading.RLock()  # the thread looks, and actions change
        self._cell, self._run = _cell()
        for old in [view for view in _shown.get(self._cell, []) if view._run != self._run]:
            old.close()
        if self._cell:
            _shown.setdefault(self._cell, []).append(self)

    # --- what a kind of view says ---------------------------------------------------------------

    def body(self) -> str:
        """The HTML of this moment. Whatever comes from a map goes through ``escape``."""
        raise NotImplementedError

    def text(self) -> str:
        """The same information as text, alike for the same contents."""
        raise NotImplementedError

    def act(self, action: str, given: Mapping[str, str]) -> None:
        """Do what the learner did: ``data-act`` of the element, and the values that it had."""

    # --- life -----------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Has it stopped looking?"""
        return self._ended.is_set()

    def close(self) -> None:
        """Stop looking. What is in the page stays; closing twice is fine."""
        self._ended.set()
        if self in _shown.get(self._cell, []):
            _shown[self._cell].remove(self)

    def draw(self) -> str:
        """Look, and give the HTML; an error stands in its place, below what was seen last."""
        with self._lock:
            try:
                if not self.closed:
                    self._seen = self.body()
            except Closed:
                self.close()
            except BpfError as error:
                self._problem = str(error)
            end = "Closed: this is what was seen last." if self.closed else ""
            notes = [("alert", self._problem), ("status", end)]
            return self._seen + "".join(
                f'<pre class="note" role="{role}">{escape(said)}</pre>'
                for role, said in notes
                if said
            )

    def do(self, action: str, given: Mapping[str, str]) -> None:
        """One action of the page, with its error, if there is one, shown in place."""
        with self._lock:
            self._problem = ""
            try:
                self.act(action, given)
            except BpfError as error:
                self._problem = str(error)
            except ValueError as error:  # of int("ten"), say: it names what was typed
                self._problem = f"That is no number: {error}"
        self._show()

    def _show(self) -> None:
        if self._page is not None:
            self._page.html = self.draw()

    def _look(self) -> None:
        while not self._ended.wait(self.every):
            self._show()
        self._show()

    def _hear(self, _: object, content: Mapping[str, Any], __: object) -> None:
        self.do(str(content.get("act", "")), {k: str(v) for k, v in content.items()})

    def __repr__(self) -> str:
        try:
            return printable(self.text())
        except Closed as error:
            return str(error)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        if self._page is None:
            self._page = _page_class()(html=self.draw())
            self._page.on_msg(self._hear)
            if not self.closed:
                threading.Thread(target=self._look, daemon=True, name=repr(type(self))).start()
        shown = self._page._repr_mimebundle_()
        data: dict[str, Any] = shown[0] if isinstance(shown, tuple) else shown
        return data | {"text/plain": repr(self)}


@cache
def _page_class() -> Any:
    # Not at the top: anywidget takes as long to import as pandas does.
    import anywidget
    import traitlets

    class Page(anywidget.AnyWidget):
        _esm = HERE / "view.js"
        _css = HERE / "view.css"
        html = traitlets.Unicode().tag(sync=True)

    return Page


def _cell() -> tuple[str, str]:
    """The notebook's cell that runs now, and this run of it; empty outside JupyterLab."""
    shell: Any = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    parent = shell.get_parent() if hasattr(shell, "get_parent") else {}
    return parent.get("metadata", {}).get("cellId", ""), parent.get("header", {}).get("msg_id", "")


# --- HTML and text that more than one view writes -------------------------------------------------


def button(action: str, label: str, **given: object) -> str:
    """A button that sends ``action`` and what it was ``given``."""
    more = "".join(f' data-{name}="{escape(str(value))}"' for name, value in given.items())
    return f'<button type="button" data-act="{action}"{more}>{escape(label)}</button>'


def choice(name: str, options: Iterable[str], chosen: str, label: str, action: str = "") -> str:
    """A drop-down list; with an ``action`` it sends each change by itself."""
    act = f' data-act="{action}"' if action else ""
    inner = "".join(
        f"<option{' selected' if one == chosen else ''}>{escape(one)}</option>" for one in options
    )
    name = f'name="{name}" aria-label="{escape(label)}"'
    return f"<label>{escape(label)} <select {name}{act}>{inner}</select></label>"


def field(name: str, value: object, label: str) -> str:
    """A text field of a form, which sends all of them together."""
    return f"<label>{escape(label)} {_box(name, value, label)}</label>"


def live(action: str, value: object, label: str, **given: object) -> str:
    """A text field that sends ``action`` by itself, when its text is changed and then left."""
    return _box("value", value, label, act=action, **given)


def search(action: str, value: object) -> str:
    """A field that sends ``action`` at each letter."""
    return f"<label>search {_box('value', value, 'search', act=action, live='')}</label>"


def _box(name: str, value: object, label: str, **given: object) -> str:
    more = "".join(f' data-{key}="{escape(str(one))}"' for key, one in given.items())
    return (
        f'<input name="{escape(name)}" value="{escape(str(value))}" aria-label="{escape(label)}"'
        f' size="{max(8, len(str(value)) + 1)}" autocomplete="off"{more}>'
    )


def as_text(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table as text, its columns aligned: numbers to the right."""
    table = [list(heads), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(heads))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if _is_number(cell) else cell.ljust(width)
            for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in table
    )


def _is_number(text: str) -> bool:
    return text.replace(",", "").lstrip("-").isdigit()
