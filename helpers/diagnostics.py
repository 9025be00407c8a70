"""What a tool said about a learner's C, as a picture of the line: text, and HTML in JupyterLab.

Compiler and verifier have the same form, that of rustc: the fault in one sentence, the expression
underlined, the earlier line that led to it, what to write instead, and the tool's own words.
"""

import html
import re
from dataclasses import dataclass, replace

FOLD = 40_000  # characters of a raw log that are shown: its end, where the verdict is
CUT = "… more before this\n"

_TOKEN = re.compile(
    r"/\*.*?(?:\*/|$)|//.*|\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|\w+"
    r"|->|\+\+|--|<<=|>>=|[-+*/%&|^=!<>]=|&&|\|\||<<|>>|\S"
)
_ASSIGNS = {"=", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "<<=", ">>="}
_PREFIXES = {"*", "&", "-", "+", "!", "~", "++", "--"}
_BINARY = {"+", "-", "*", "/", "%", "&", "|", "^", "<", ">", "<=", ">=", "==", "!=", "&&", "||"}
_BINARY |= {"<<", ">>"}
_HEADS = {"if", "while", "for", "switch"}
_PAIRS = {"(": ")", "[": "]"}


def printable(text: str) -> str:
    """Text from who knows where, fit to be shown: what a terminal would obey, or could not write,
    stands there as Python writes it, such as \\x1b."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)


def as_html(text: str) -> str:
    """The same for a page."""
    return html.escape(printable(text))


@dataclass(frozen=True)
class Mark:
    """A stretch of a source line: ``text`` from ``start`` to ``end``, and a word about it.

    ``number`` is the line's, from 1; None when it cannot be told.
    """

    file: str
    number: int | None
    text: str
    start: int
    end: int
    note: str = ""

    @property
    def marked(self) -> str:
        """The text of the stretch alone."""
        return self.text[self.start : self.end]


@dataclass(frozen=True, repr=False)
class Diagnostic:
    """One fault. ``rule`` names what it was recognised as; empty when it was not.

    ``cause`` is the earlier line that led to ``here``; ``log`` all that the tool said, ``said``
    the sentence of it that counts, ``who`` the tool.
    """

    error: str
    name: str
    here: Mark | None = None
    cause: Mark | None = None
    help: str = ""
    said: str = ""
    who: str = "the kernel"
    more: str = ""
    rule: str = ""
    log: str = ""

    def __repr__(self) -> str:
        parts = [self.error, *(f"{row}{marks}" for row, marks, _ in self._rows())]
        parts += [f"help: {self.help}"] if self.help else []
        return printable("\n".join([*parts, self._words(), *([self.more] if self.more else [])]))

    def _repr_html_(self) -> str:
        rows = "\n".join(
            as_html(row)
            + (f'<b style="color: var({colour})">{as_html(marks)}</b>' if marks else "")
            for row, marks, colour in self._rows()
        )
        listing = "margin: .4em 0; line-height: 1.3; overflow-x: auto"
        body = f"<div><b>{as_html(self.error)}</b></div>"
        body += f'<pre style="{listing}">{rows}</pre>' if rows else ""
        if self.help:
            body += f"<div><b>help:</b> {as_html(self.help)}</div>"
        body += f"<div>{as_html(self.more)}</div>" if self.more else ""
        if self.log:
            body += (
                f"<details><summary>{as_html(self._words())}</summary>"
                '<pre style="max-height: 24em; overflow: auto">'
                f"{as_html(self.fold)}</pre></details>"
            )
        else:
            body += f"<div>{as_html(self._words())}</div>"
        edge = "border-left: .3em solid var(--jp-error-color1, #d32f2f); padding: .2em 1em"
        return f'<div style="{edge}; color: var(--jp-ui-font-color1, inherit)">{body}</div>'

    @property
    def fold(self) -> str:
        """The log as it is shown: its end, of at most ``FOLD`` characters."""
        return self.log if len(self.log) <= FOLD else CUT + self.log[len(CUT) - FOLD :]

    def _words(self) -> str:
        return f"({self.who} said: {self.said or 'nothing'})"

    def _rows(self) -> list[tuple[str, str, str]]:
        """The picture, row by row: plain text, the marks that end it, and their colour."""
        here = self.here
        if not here:
            return []
        cause = self.cause
        if cause and (cause.file, cause.number) == (here.file, here.number):
            cause = None
        shown = [(cause, "-", "--jp-info-color1, #1976d2")] if cause else []
        if cause and here.number and cause.number and cause.number > here.number:
            shown.insert(0, (here, "^", "--jp-error-color1, #d32f2f"))
        else:
            shown.append((here, "^", "--jp-error-color1, #d32f2f"))
        marks = [_spread(mark) for mark, _, _ in shown]
        indent = min(len(mark.text) - len(mark.text.lstrip()) for mark in marks)
        width = max(len(str(mark.number or "")) for mark in marks)
        bar = f"{' ' * width} | "
        place = f"{here.file}:{here.number}" if here.number else here.file
        rows = [(f"{' ' * width}--> {place}", "", ""), (bar.rstrip(), "", "")]
        for mark, (_, sign, colour) in zip(marks, shown, strict=True):
            elsewhere = f"  ({mark.file})" if mark.file != here.file else ""
            rows.append((f"{mark.number or '':>{width}} | {mark.text[indent:]}{elsewhere}", "", ""))
            under = sign * max(1, mark.end - mark.start)
            pad = " " * max(0, mark.start - indent)
            rows.append((f"{bar}{pad}", f"{under} {mark.note}".rstrip(), colour))
        return [*rows, (bar.rstrip(), "", "")]


def _spread(mark: Mark) -> Mark:
    """The mark with tabs as spaces, so that what stands below it stands right."""

    def column(at: int) -> int:
        return len(mark.text[:at].expandtabs(8))

    text = mark.text.expandtabs(8).rstrip()
    return replace(mark, text=text, start=column(mark.start), end=column(mark.end))


def code(text: str) -> tuple[int, int]:
    """Where in a line its code begins and ends: without indentation and comments."""
    tokens = _tokens(text)
    return (tokens[0][1], tokens[-1][2]) if tokens else (0, len(text.rstrip()))


def word(text: str, at: int) -> tuple[int, int]:
    """The word of a line at a column, from 0; one character where no word is."""
    found = next((t for t in _tokens(text) if t[1] <= at < t[2]), None)
    return (found[1], found[2]) if found else (at, at + 1)


def expression(text: str, at: int) -> tuple[int, int]:
    """The expression that a compiler means by the column ``at``, from 0, of a line of C.

    For an assignment that is what is written to, for an operator its operands, for a name all
    that belongs to it. What goes on in the next line is cut.
    """
    tokens = _tokens(text)
    i = next((i for i, token in enumerate(tokens) if token[1] <= at < token[2]), None)
    if i is None:
        return code(text)
    sign = tokens[i][0]
    before = tokens[i - 1][0] if i else ""
    after_value = bool(re.match(r"[\w\])\"']", before[-1:])) and before != "return"
    if sign in _HEADS:
        first, last = i, _match(tokens, i + 1)
    elif sign == "return":
        ends = (j for j in range(i + 1, len(tokens)) if tokens[j][0] == ";")
        first, last = i, next(ends, len(tokens)) - 1
    elif sign in _ASSIGNS:
        first, last = _left(tokens, i - 1), i - 1
    elif sign in ("++", "--") and after_value:
        first, last = _left(tokens, i - 1, prefixes=False), i
    elif sign in _BINARY and after_value:
        first, last = _left(tokens, i - 1), _right(tokens, i + 1)
    elif sign in (".", "->"):
        first, last = _left(tokens, i - 1, prefixes=False), _right(tokens, i + 1)
    elif sign in _PREFIXES or sign in _PAIRS:
        first, last = i, _right(tokens, i)
    elif before in (".", "->"):
        first, last = _left(tokens, i, prefixes=False), _right(tokens, i)
    else:
        first, last = i, _right(tokens, i)
    first, last = max(0, first), min(last, len(tokens) - 1)
    return tokens[first][1], tokens[max(first, last)][2]


def argument(text: str, at: int, number: int) -> tuple[int, int] | None:
    """Argument ``number``, from 1, of the call at column ``at``; None if it is not all there."""
    tokens = _tokens(text)
    i = next((i for i, token in enumerate(tokens) if token[1] <= at < token[2]), len(tokens))
    if i + 1 >= len(tokens) or tokens[i + 1][0] != "(" or not re.match(r"\w", tokens[i][0]):
        return None
    end = _match(tokens, i + 1)
    if tokens[end][0] != ")":
        return None
    parts: list[list[tuple[str, int, int]]] = [[]]
    depth = 0
    for token in tokens[i + 2 : end]:
        depth += (token[0] in "([{") - (token[0] in ")]}")
        if token[0] == "," and depth == 0:
            parts.append([])
        else:
            parts[-1].append(token)
    if number > len(parts) or not parts[number - 1]:
        return None
    return parts[number - 1][0][1], parts[number - 1][-1][2]


def _tokens(text: str) -> list[tuple[str, int, int]]:
    found = [(match[0], match.start(), match.end()) for match in _TOKEN.finditer(text)]
    return [token for token in found if not token[0].startswith(("/*", "//"))]


def _match(tokens: list[tuple[str, int, int]], i: int) -> int:
    """The token that closes the bracket at ``i``; the last one when none does."""
    depth = 0
    for j in range(i, len(tokens)):
        depth += (tokens[j][0] in "([") - (tokens[j][0] in ")]")
        if depth == 0:
            return j
    return len(tokens) - 1


def _right(tokens: list[tuple[str, int, int]], i: int) -> int:
    """The last token of the operand that begins at ``i``."""
    last = len(tokens) - 1
    while i < last and tokens[i][0] in _PREFIXES:
        i += 1
    i = min(i, last)
    if tokens[i][0] == "(":
        i = _match(tokens, i)
        if i < last and re.match(r"[\w(*&]", tokens[i + 1][0]):  # that was a cast
            return _right(tokens, i + 1)
    while i < last:
        sign = tokens[i + 1][0]
        if sign in _PAIRS:
            i = _match(tokens, i + 1)
        elif sign in (".", "->"):
            i += 2
        elif sign in ("++", "--"):
            return i + 1
        else:
            break
    return min(i, last)


def _left(tokens: list[tuple[str, int, int]], i: int, *, prefixes: bool = True) -> int:
    """The first token of the operand that ends at ``i``."""
    i = max(i, 0)
    while True:
        if tokens[i][0] in ("]", ")"):
            depth = 0
            while i > 0:
                depth += (tokens[i][0] in ")]") - (tokens[i][0] in "([")
                if depth == 0:
                    break
                i -= 1
            before = tokens[i - 1][0] if i else ""
            if re.match(r"[\w\])]", before[-1:]) and before not in {*_HEADS, "return"}:
                i -= 1
                continue
        elif i > 1 and tokens[i - 1][0] in (".", "->"):
            i -= 2
            continue
        break
    while prefixes and i and tokens[i - 1][0] in _PREFIXES:
        before = tokens[i - 2][0] if i > 1 else ""
        if re.match(r"[\w\])]", before[-1:]) and before != "return" and i > 1:
            # A name before a star is a declaration's type, or the star multiplies.
            break
        i -= 1
    return i
