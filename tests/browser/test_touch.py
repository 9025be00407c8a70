"""Where a learner's hands are: the card of a check, and Tab, in a real browser."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from helpers.kernel import ROOT
from tests.browser.test_notebooks import browser, lab, ran  # noqa: F401

LABS = ROOT / "labs"
CELLS = [
    "from helpers import lab, load\nprog = load('per_cpu.bpf.c')",
    f"lab.open('02').check_file('{LABS}/02_connection_table/wrong/no_null_check.bpf.c')",
    "x = 0",
]


@pytest.fixture(scope="module")
def page(lab: str, browser: Browser) -> Iterator[Page]:  # noqa: F811
    with ran(CELLS, lab, browser) as page:
        yield page


def test_the_card_of_a_check_shows_the_line_and_folds_the_log(page: Page) -> None:
    card = page.locator(".jp-CodeCell").nth(1).locator(".jp-OutputArea-output")
    expect(card).to_contain_text("Not yet. The kernel's verifier refuses your program.")
    expect(card.locator("pre b").last).to_contain_text("^^^")
    log = card.locator("details pre")
    expect(log).to_be_hidden()
    card.locator("summary").click()
    expect(log).to_be_visible()
    expect(log).to_contain_text("invalid mem access 'map_value_or_null'")


@pytest.mark.parametrize(
    ("text", "offer", "becomes"),
    [
        ('prog.run("', "add_atomic", 'prog.run("add_atomic'),
        ("%%bpf other\n__uint(type, BPF_MAP_TYPE_LRU_", "BPF_MAP_TYPE_LRU_PERCPU_HASH", None),
        ("%%bpf other\nv = bpf_map_look", "bpf_map_lookup_elem", None),
    ],
)
def test_tab_completes(page: Page, text: str, offer: str, becomes: str | None) -> None:
    source = """() => window.jupyterapp.shell.currentWidget.content.activeCell.model
        .sharedModel.getSource()"""
    editor = page.locator(".jp-CodeCell").nth(2).locator(".cm-content")
    editor.click()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(text)
    page.keyboard.press("Tab")
    whole = becomes or text[: text.rindex(" ") + 1] + offer
    page.locator(".jp-Completer-item", has_text=offer).first.click()
    page.wait_for_function(f"text => ({source})() === text", arg=whole)
