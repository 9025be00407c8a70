"""Each widget in JupyterLab: from the browser into the kernel's map, and back into the page."""

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from helpers import open_map
from helpers.maps import BpfMap
from tests.browser.test_notebooks import browser, lab, ran  # noqa: F401

CELLS = {
    "setup": """
import pandas as pd
from helpers import load, sandbox, widgets
prog, chain, streams = load("hash.bpf.c"), load("tail_calls.bpf.c"), load("event_buffers.bpf.c")
per_cpu = load("per_cpu.bpf.c")
""",
    "table": 'widgets.table(prog["connections"])',
    "bytes": 'widgets.bytes_of(prog["connections"])',
    "hash": "steps = widgets.explore()\nsteps",
    "lru": "memory = widgets.explore_lru(10)\nmemory",
    "ring": 'widgets.ring(streams["ring"])',
    "race": "both = widgets.race(200_000)\nboth",
    "chain": (
        'widgets.tail_calls(chain, chain["protocols"], chain["counts"], {"count_tcp": "tcp"})'
    ),
    "flame": """
stacks = [("main", "dear", "add"), ("main", "cheap")]
widgets.flame(pd.DataFrame({"path": stacks, "samples": [6, 2]}), "path", "samples")
""",
    "dashboard": 'widgets.dashboard(per_cpu["shared"])',
    "guess": 'guess = widgets.predict("How many?", ["one", "two"])\nguess',
}


@pytest.fixture(scope="module")
def page(lab: str, browser: Browser) -> Iterator[Page]:  # noqa: F811
    """A notebook with one widget a cell, run once."""
    with ran(CELLS.values(), lab, browser) as page:
        yield page


def shown(page: Page, name: str) -> Locator:
    """The widget's place in the page."""
    cell = page.locator(".jp-CodeCell").nth(list(CELLS).index(name))
    return cell.locator(".course-view" if name != "guess" else ".jp-OutputArea-output").first


def the_map(page: Page, name: str) -> BpfMap:
    """The map that the notebook calls so, opened here by its id."""
    return open_map(id=int(run(page, "", f"{name}.id")))


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_table_edits_the_map_and_shows_errors_in_place(page: Page) -> None:
    view, conns = shown(page, "table"), the_map(page, "prog['connections']")
    form = view.locator("form[data-act=update]")
    for name, text in zip(
        conns.key.names, ["10.0.0.1", "10.0.0.2", "4000", "80", "6"], strict=True
    ):
        form.get_by_label(name).fill(text)
    for name in conns.value.names:
        form.get_by_label(name).fill("7")
    form.get_by_role("button", name="update").press("Enter")  # by the keyboard alone
    until(lambda: len(conns) == 1)
    [(key, value)] = conns.items()
    assert key.src_ip == 0x0A000001 and set(value) == {7}
    packets = view.get_by_label(re.compile("^packets of key"))
    packets.select_text()
    packets.press_sequentially("1234")
    packets.press("Tab")
    until(lambda: conns[key].packets == 1234)
    conns[key] = value._replace(bytes=4321)  # from the kernel's side, into the page
    expect(view.get_by_label(re.compile("^bytes of key"))).to_have_value("4321")
    form.get_by_label("flags").select_option("noexist")
    form.get_by_role("button", name="update").click()
    expect(view.get_by_role("alert")).to_contain_text("has the key")
    # What is being typed stays while the map moves.
    packets.fill("99")
    conns[key] = value._replace(bytes=5)
    expect(view.get_by_label(re.compile("^bytes of key"))).to_have_value("5")
    expect(packets).to_have_value("99")
    view.get_by_role("button", name="delete").click()
    until(lambda: len(conns) == 0)
    expect(view.locator("tbody tr")).to_have_count(0)


def test_bytes_follow_the_map(page: Page) -> None:
    view, conns = shown(page, "bytes"), the_map(page, "prog['connections']")
    conns[(0x0A000001, 2, 3, 4, 6)] = (1,) * len(conns.value.names)
    expect(view.locator(".gap").first).to_contain_text("padding 00 00 00")
    expect(view.locator(".byte").first).to_contain_text("src_ip 01 00 00 0a")
    conns.clear()


def test_an_explorer_steps_from_both_sides(page: Page) -> None:
    view, table = shown(page, "hash"), the_map(page, "steps.map")
    view.get_by_label("value", exact=True).fill("42")
    view.get_by_label("by", exact=True).select_option("the program in the kernel, by a helper")
    view.get_by_role("button", name="do it").click()
    until(lambda: dict(table) == {1: 42})
    expect(view.locator("tbody").first).to_have_text("14242")
    view.get_by_label("flags").select_option("noexist")
    view.get_by_label("by", exact=True).select_option("Python, by a system call")
    view.get_by_role("button", name="do it").click()
    expect(view.locator("tbody").last).to_contain_text("EEXIST")


def test_an_lru_explorer_inserts_and_touches(page: Page) -> None:
    view, cache = shown(page, "lru"), the_map(page, "memory.map")
    for _ in range(3):
        view.get_by_role("button", name="send five").click()
    expect(view.locator("tbody tr")).to_have_count(15)
    assert 0 < len(cache) < 10
    view.get_by_role("button", name="send flow 3", exact=True).click()
    until(lambda: 3 in cache)


def test_a_ring_shows_what_lies_in_it(page: Page) -> None:
    view = shown(page, "ring")
    expect(view).to_contain_text("0 records. Consumer at 0, producer at 0.")
    run(page, "streams.run('to_ring', repeat=3)")
    expect(view.locator("tbody tr")).to_have_count(3)
    expect(view.locator("tbody")).to_contain_text("submitted")
    run(page, "streams.events('ring', lost=None).raw()")
    expect(view).to_contain_text(re.compile(r"0 records\. Consumer at (\d+), producer at \1\."))


def test_a_race_runs_from_the_page(page: Page) -> None:
    view, slots = shown(page, "race"), the_map(page, "both.program['per_cpu']")
    view.get_by_role("button", name="run per-CPU").click()
    expect(view).to_contain_text("Nothing runs.")
    expect(view.locator("tr[data-key='per-CPU']")).to_contain_text("400,000400,0000")
    assert sum(slots[0]) == 400_000


def test_a_tail_call_graph_fills_slots_and_counts(page: Page) -> None:
    view, slots = shown(page, "chain"), the_map(page, "chain['protocols']")
    view.get_by_label("put").select_option("count_tcp")
    view.get_by_label("into slot").fill("6")
    view.get_by_role("button", name="fill").click()
    until(lambda: 6 in slots)
    run(page, "chain.run('dispatch', data=sandbox.tcp(), repeat=5)")
    expect(view.get_by_role("img", name=re.compile("slot 6: count_tcp, 5 calls"))).to_be_visible()
    view.get_by_role("button", name="empty slot 6").click()
    until(lambda: 6 not in slots)


def test_a_flame_graph_zooms_by_mouse_and_keyboard(page: Page) -> None:
    view = shown(page, "flame")
    view.get_by_role("button", name="dear: 6 samples").click()
    expect(view.locator("g")).to_have_count(3)
    view.get_by_label("search").press_sequentially("add")
    expect(view).to_contain_text("75% of 8 samples match")
    view.get_by_role("button", name="main: 8 samples").press("Enter")
    expect(view.locator("g")).to_have_count(4)


def test_a_dashboard_counts_and_pauses(page: Page) -> None:
    view = shown(page, "dashboard")
    run(page, "per_cpu.run('add_plain', repeat=10_000)")
    expect(view.locator("tbody")).to_contain_text("10,000")
    view.get_by_role("button", name="pause").press("Enter")
    expect(view).to_contain_text("paused")
    run(page, "per_cpu.run('add_plain', repeat=10_000)")
    time.sleep(1.5)
    expect(view.locator("tbody")).to_contain_text("10,000")
    view.get_by_role("button", name="go on").click()
    expect(view.locator("tbody")).to_contain_text("20,000")


def test_a_prediction_is_made_by_the_keyboard(page: Page) -> None:
    view = shown(page, "guess")
    view.get_by_role("button", name="two").press("Space")
    expect(view).to_contain_text("You say: two")


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_text_stands_out_in_both_themes_and_at_200_percent(
    page: Page, theme: str, tmp_path: Path
) -> None:
    """WCAG asks for a contrast of 4.5 of text against what it stands on."""
    page.evaluate(
        f"() => window.jupyterapp.commands.execute('apputils:change-theme', {{theme: '{theme}'}})"
    )
    page.wait_for_function(f"() => document.body.dataset.jpThemeName === '{theme}'", timeout=60_000)
    for name in CELLS:
        if name in ("setup", "guess"):
            continue
        ratios = shown(page, name).evaluate(CONTRAST)
        assert ratios and min(ratios) >= 4.5, (name, theme)
        box = shown(page, name).evaluate(
            "(el) => { el.style.fontSize = '200%'; const wide = el.getBoundingClientRect().width;"
            " const room = el.closest('.jp-OutputArea-output').getBoundingClientRect().width;"
            " el.style.fontSize = ''; return [wide, room]; }"
        )
        assert box[0] <= box[1] + 1, name
    page.screenshot(path=tmp_path / f"{theme.split()[-1]}.png")


CONTRAST = """(el) => {
    const parse = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
    const light = (rgb) => rgb.slice(0, 3).map((c) => c / 255)
        .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const over = (top, below) =>
        top.slice(0, 3).map((c, i) => c * top[3] + below[i] * (1 - top[3]));
    const ground = (node) => {
        const stack = [];
        for (let at = node; at; at = at.parentElement) {
            const color = parse(getComputedStyle(at).backgroundColor);
            if (color.length === 3) color.push(1);
            stack.push(color);
            if (color[3] === 1) break;
        }
        return stack.reverse().reduce((below, top) => over(top, below), [255, 255, 255]);
    };
    const texts = [...el.querySelectorAll("td, th, button, span, p, caption, input, text")];
    return texts.filter((node) => node.textContent || node.value).map((node) => {
        const style = getComputedStyle(node);
        const [a, b] = [light(parse(node.nodeName === "text" ? style.fill : style.color)),
                        light(ground(node))].sort((x, y) => y - x);
        return (a + 0.05) / (b + 0.05);
    });
}"""


def run(page: Page, code: str, ask: str = "None") -> str:
    """Run Python in the notebook's kernel, beside its cells; then what ``ask`` is there."""
    content = page.evaluate(
        """async ([code, ask]) => {
            const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
            const request = {code, silent: true, user_expressions: {ask}};
            return (await kernel.requestExecute(request).done).content;
        }""",
        [code, ask],
    )
    assert content["status"] == "ok", content
    return str(content["user_expressions"]["ask"]["data"]["text/plain"])
