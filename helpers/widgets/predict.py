"""Widgets for learners. Each shows itself as text, too, wherever no widget can be.

Colours and fonts are left to JupyterLab's theme, light or dark.
"""

from collections.abc import Sequence
from numbers import Integral
from typing import Any

from helpers.diagnostics import as_html, printable


class Prediction:
    """A question to answer before the cell that knows: see ``predict()``."""

    def __init__(self, question: str, choices: Sequence[str]) -> None:
        import ipywidgets

        self.question, self.choices = question, tuple(choices)
        # Buttons, since Tab and Space reach each of them. Radio buttons need the arrow keys, which
        # JupyterLab takes for itself.
        self._buttons = ipywidgets.ToggleButtons(
            options=self.choices, value=None, style={"button_width": "auto"}
        )
        asked = ipywidgets.HTML(f"<strong>Predict.</strong> {as_html(question)}")
        # In words as well: which button is down is told by its shade alone.
        said = ipywidgets.Label()
        self._buttons.observe(lambda _: said.set_trait("value", f"You say: {self.answer}"), "value")
        self.widget = ipywidgets.VBox([asked, self._buttons, said])

    @property
    def answer(self) -> str | None:
        """The choice as it stands now; None until there is one."""
        chosen: str | None = self._buttons.value
        return chosen

    def reveal(self, measured: object, explanation: str = "") -> "Reveal":
        """Put what was said beside what was measured, as the last line of a cell.

        Integers are written with their thousands apart. The text form depends on the answer and
        on these two arguments alone: a number that differs from run to run makes a cell for the
        tag ``nbval-ignore-output``.
        """
        return Reveal(self.question, self.answer, measured, explanation)

    def __repr__(self) -> str:
        # The answer is left out: the cell shows this text as it was when it ran.
        told = [f"Predict. {self.question}", *(f"( ) {one}" for one in self.choices)]
        return printable("\n".join(told))

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        shown: dict[str, Any] = self.widget._repr_mimebundle_()
        return shown | {"text/plain": repr(self)}


class Reveal:
    """What a learner said beside what was measured, as a table in JupyterLab, else as text."""

    def __init__(
        self, question: str, answer: str | None, measured: object, explanation: str
    ) -> None:
        self.question, self.answer, self.explanation = question, answer, explanation
        counted = isinstance(measured, Integral) and not isinstance(measured, bool)
        self.measured = f"{measured:,}" if counted else str(measured)

    @property
    def _said(self) -> str:
        return self.answer or "nothing yet: the question is still open above"

    def __repr__(self) -> str:
        lines = [self.question, f"You said: {self._said}", f"Measured: {self.measured}"]
        return printable("\n".join([*lines, self.explanation] if self.explanation else lines))

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><th scope="row" style="text-align: left">{name}</th>'
            f'<td style="text-align: left">{as_html(text)}</td></tr>'
            for name, text in (("You said", self._said), ("Measured", self.measured))
        )
        caption = f'<caption style="text-align: left">{as_html(self.question)}</caption>'
        said = f"<p>{as_html(self.explanation)}</p>" if self.explanation else ""
        return f"<table>{caption}{rows}</table>{said}"


def predict(question: str, choices: Sequence[str]) -> Prediction:
    """Ask before the cell that measures: one question, two choices or more, none chosen yet.

    ```python
    guess = widgets.predict("plain ++ on two CPUs", ["4,000,000", "a bit less", "it varies"])
    guess                                   # the learner chooses
    guess.reveal(counted, "some were lost") # in a later cell
    ```

    Raises:
        ValueError: fewer than two choices, or two that are alike.
    """
    if isinstance(choices, str) or len(choices) < 2 or len(set(choices)) < len(choices):
        raise ValueError("A prediction takes a list of two or more different choices.")
    return Prediction(question, choices)
