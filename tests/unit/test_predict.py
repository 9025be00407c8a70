"""What a prediction says, as a widget, as HTML and as text."""

import subprocess
import sys
from pathlib import Path

import pytest

from helpers import widgets

CHOICES = ["4,000,000", "a bit less", "it varies"]


def test_nothing_is_chosen_until_the_learner_chooses() -> None:
    guess = widgets.predict("plain ++ on two CPUs", CHOICES)
    assert guess.answer is None
    assert guess._buttons.index is None
    guess._buttons.value = "it varies"  # what a click in the browser sends
    assert guess.answer == "it varies"
    assert guess.widget.children[-1].value == "You say: it varies"


def test_text_form_is_the_same_before_and_after_the_choice() -> None:
    guess = widgets.predict("plain ++ on two CPUs", CHOICES)
    text = repr(guess)
    assert text == ("Predict. plain ++ on two CPUs\n( ) 4,000,000\n( ) a bit less\n( ) it varies")
    guess._buttons.value = "it varies"
    assert repr(guess) == text == guess._repr_mimebundle_()["text/plain"]


def test_a_notebook_gets_the_widget_and_its_text() -> None:
    shown = widgets.predict("q", CHOICES)._repr_mimebundle_(include=None, exclude=None)
    assert set(shown) == {"text/plain", "application/vnd.jupyter.widget-view+json"}


def test_reveal_puts_both_side_by_side() -> None:
    guess = widgets.predict("plain ++ on two CPUs", CHOICES)
    guess._buttons.value = "a bit less"
    shown = guess.reveal(3_631_711, "some updates were lost")
    assert repr(shown) == (
        "plain ++ on two CPUs\nYou said: a bit less\nMeasured: 3,631,711\nsome updates were lost"
    )
    html = shown._repr_html_()
    for text in ("a bit less", "3,631,711", "some updates were lost", "plain ++ on two CPUs"):
        assert text in html


def test_reveal_without_an_answer_says_so_and_still_shows_the_measurement() -> None:
    shown = widgets.predict("q", CHOICES).reveal("9 of 10")
    assert repr(shown) == (
        "q\nYou said: nothing yet: the question is still open above\nMeasured: 9 of 10"
    )
    assert "nothing yet" in shown._repr_html_()


def test_a_reveal_keeps_the_answer_of_its_time() -> None:
    guess = widgets.predict("q", CHOICES)
    guess._buttons.value = "it varies"
    shown = guess.reveal(True)
    guess._buttons.value = "a bit less"
    assert "it varies" in repr(shown)
    assert "Measured: True" in repr(shown)


def test_text_is_escaped_and_no_colour_is_fixed() -> None:
    guess = widgets.predict("is a < b?", ["a < b", "a & b"])
    guess._buttons.value = "a < b"
    html = guess.reveal("<b>", "x > y")._repr_html_() + guess.widget.children[0].value
    for text in ("a &lt; b", "is a &lt; b?", "&lt;b&gt;", "x &gt; y"):
        assert text in html
    assert "color" not in html and "background" not in html


@pytest.mark.parametrize("choices", [[], ["one"], ["same", "same"], "text"])
def test_a_prediction_needs_different_choices(choices: list[str]) -> None:
    with pytest.raises(ValueError, match="two or more different"):
        widgets.predict("q", choices)


def test_importing_widgets_does_not_bring_ipywidgets() -> None:
    text = "import sys; from helpers import widgets; print('ipywidgets' in sys.modules)"
    home = Path(widgets.__file__).parents[1]
    said = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, cwd=home, check=True
    )
    assert said.stdout.strip() == "False"
