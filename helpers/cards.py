"""What a learner reads: short texts, and the outcomes of a check."""

import re
from dataclasses import asdict, dataclass, replace
from typing import Any

from helpers.diagnostics import Diagnostic, Mark, as_html, printable

MOST = 20_000  # characters of a text


@dataclass(frozen=True)
class Card:
    """A short text for the learner: HTML in JupyterLab, the same words as text elsewhere.

    ``said`` states a fact, ``ask`` asks what follows from it, ``listing`` is shown as it is.
    Words between backquotes are code. ``fault`` says in HTML what ``listing`` says as text.
    """

    said: str
    ask: str = ""
    listing: str = ""
    title: str = ""
    fault: Diagnostic | None = None
    colour = "var(--jp-info-color1, #1976d2)"

    def __repr__(self) -> str:
        head = f"{self.title} {self.said}".strip()
        return printable("\n".join(part for part in (head, self.ask, self.listing) if part))

    def _repr_html_(self) -> str:
        title = f"<b>{as_html(self.title)}</b> " if self.title else ""
        twice = self.fault and self.fault.error == self.said
        body = f"<div>{title}{'' if twice else _prose(self.said)}</div>"
        if self.ask:
            body += f'<div style="margin-top: .5em">{_prose(self.ask)}</div>'
        if self.fault:
            body += f'<div style="margin-top: .5em">{self.fault._repr_html_()}</div>'
        elif self.listing:
            body += f'<pre style="margin-top: .5em">{as_html(self.listing)}</pre>'
        style = f"border-left: .3em solid {self.colour}; padding: .2em 1em"
        return f'<div style="{style}">{body}</div>'


def _prose(text: str) -> str:
    code = re.sub(r"`([^`]*)`", r"<code>\1</code>", as_html(text))
    return code.replace("\n", "<br>")


class Result(Card):
    """The outcome of a check: plain data, the same in whatever process the check ran."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON: ``state``, the name of the class, the texts, and the fault in parts."""
        fault = self.fault and replace(self.fault, log=self.fault.fold)
        return {"state": type(self).__name__} | asdict(replace(self, fault=fault))


def result(data: dict[str, Any]) -> Result:
    """A Result from its ``as_dict()``; texts that hold what a learner wrote become fit to show."""
    kinds = {kind.__name__: kind for kind in (NotAttempted, Wrong, Right, NotChecked)}
    kind, fault = kinds[data.pop("state")], data.pop("fault")
    texts = {key: _fit(text[:MOST]) for key, text in data.items()}
    return kind(**texts, fault=fault and _fault(fault))


def _fault(data: dict[str, Any]) -> Diagnostic:
    parts = dict[str, Any]()
    for key, part in data.items():
        mark = isinstance(part, dict)
        parts[key] = Mark(**(part | {"text": _fit(part["text"])})) if mark else part and _fit(part)
    return Diagnostic(**parts)


def _fit(text: str) -> str:
    return text.encode(errors="replace").decode()


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
