"""Widgets on the side of the kernel: what they read from a map, and what an action does to it."""

import time
from collections.abc import Iterator

import pandas as pd
import pytest

from helpers import load, sandbox, widgets
from helpers.errors import LayoutError
from helpers.program import Program
from helpers.widgets import view
from helpers.widgets.ring import Pages

RING = """#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } ring SEC(".maps");
SEC("xdp") int keep(struct xdp_md *ctx)
{
	__u64 *record = bpf_ringbuf_reserve(&ring, 8, 0);
	if (!record)
		return XDP_DROP;
	*record = 1;
	bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
	return XDP_PASS;
}
SEC("xdp") int give_up(struct xdp_md *ctx)
{
	__u64 *record = bpf_ringbuf_reserve(&ring, 20, 0);
	if (!record)
		return XDP_DROP;
	bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);
	return XDP_PASS;
}
char LICENSE[] SEC("license") = "Dual MIT/GPL";
"""


@pytest.fixture
def hashed() -> Iterator[Program]:
    with load("hash.bpf.c") as prog:
        yield prog


@pytest.fixture
def per_cpu() -> Iterator[Program]:
    with load("per_cpu.bpf.c") as prog:
        yield prog


# --- all views ------------------------------------------------------------------------------


def test_what_a_map_holds_is_never_taken_for_html() -> None:
    text = (
        "struct name { char text[32]; };\nBPF_HASH(names, struct name, u64, 8);\n"
        "int nothing(struct xdp_md *ctx) { return XDP_PASS; }\n"
    )
    with load(text=text, dialect="bcc", name="names.bcc.c") as prog:
        prog["names"][("<script>alert(1)</script>",)] = 1
        for kind in (widgets.table, widgets.dashboard):
            html = kind(prog["names"]).draw()
            assert "<script" not in html and "&lt;script&gt;" in html


def test_a_view_ends_with_its_program_and_keeps_what_it_saw(hashed: Program) -> None:
    shown = widgets.table(hashed["connections"])
    before = shown.draw()
    hashed.close()
    assert shown.draw().startswith(before)
    assert "Closed: this is what was seen last." in shown.draw()
    assert shown.closed
    assert repr(shown).startswith("connections is closed")


def test_running_a_cell_again_ends_the_view_before(
    per_cpu: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = iter([("cell", "run 1"), ("cell", "run 1"), ("cell", "run 2"), ("other", "run 3")])
    monkeypatch.setattr(view, "_cell", lambda: next(runs))
    shown = [widgets.table(per_cpu["shared"]) for _ in range(4)]
    assert [one.closed for one in shown] == [True, True, False, False]
    for one in shown:
        one.close()
    assert not any(view._shown.values())


def test_the_page_follows_the_map(per_cpu: Program) -> None:
    shown = widgets.table(per_cpu["shared"])
    data = shown._repr_mimebundle_()
    assert data["text/plain"] == repr(shown)
    assert "application/vnd.jupyter.widget-view+json" in data
    per_cpu["shared"][0] = 123456
    deadline = time.monotonic() + 10
    while "123456" not in shown._page.html:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    shown.close()


# --- the table ------------------------------------------------------------------------------


def test_a_table_shows_edits_inserts_and_deletes(hashed: Program) -> None:
    conns = hashed["connections"]
    shown = widgets.table(conns)
    new = dict(zip([f"key{i}" for i in range(5)], ["10.0.0.1", "2", "3", "0x10", "6"], strict=True))
    new |= {f"value{i}": str(i) for i in range(len(shown.leaves))} | {"flags": "noexist"}
    shown.do("update", new)
    [(key, value)] = conns.items()
    assert (key.src_ip, key.src_port) == (0x0A000001, 3)
    shown.draw()
    at = [leaf.field for leaf in shown.leaves].index("packets")
    shown.do("edit", {"row": repr(key), "leaf": str(at), "value": "77"})
    assert conns[key] == value._replace(packets=77)
    assert 'class="moved"' in shown.draw()
    shown.do("update", new)
    assert "has the key" in shown.draw()  # KeyExists, as noexist says
    shown.do("edit", {"row": repr(key), "leaf": str(at), "value": "-1"})
    assert "an integer from 0 to" in shown.draw()
    shown.do("delete", {"row": repr(key)})
    assert len(conns) == 0


def test_a_table_says_what_will_not_do(per_cpu: Program) -> None:
    shown = widgets.table(per_cpu["shared"])
    shown.draw()
    shown.do("delete", {"row": "0"})
    assert "entries are always there and cannot be deleted" in shown.draw()
    shown.do("update", {"key0": "", "value0": "1", "flags": "any"})
    assert "That is no number: a field is empty" in shown.draw()
    shown.do("update", {"key0": "ten", "value0": "1", "flags": "any"})
    assert "The key of shared: " in shown.draw()


def test_a_table_has_a_column_for_each_cpu(per_cpu: Program) -> None:
    slots = per_cpu["per_cpu"]
    slots[0] = list(range(len(slots[0])))
    shown = widgets.table(slots)
    shown.draw()
    shown.do("edit", {"row": "0", "leaf": "1", "value": "100"})
    assert slots[0][:2] == [0, 100]
    assert repr(shown).splitlines()[1].split()[:5] == ["key", "cpu", "0", "cpu", "1"]


def test_a_table_reads_no_more_than_its_rows() -> None:
    text = "BPF_HASH(many, u32, u64, 100);\nint nothing(struct xdp_md *ctx) { return XDP_PASS; }\n"
    with load(text=text, dialect="bcc", name="many.bcc.c") as prog:
        prog["many"].update({i: i for i in range(50)})
        shown = widgets.table(prog["many"], rows=5)
        assert "Entries: the first 5." in shown.draw()
        assert repr(shown).endswith("… and more than these 5")


# --- bytes ----------------------------------------------------------------------------------


def test_bytes_have_the_names_of_their_fields(hashed: Program) -> None:
    conns = hashed["connections"]
    conns[(0x0A000001, 2, 3, 4, 6)] = (1, 2, 3)
    lines = repr(widgets.bytes_of(conns)).splitlines()
    assert lines[1].startswith("key    src_ip: 01 00 00 0a | ")
    assert lines[1].endswith("| padding: 00 00 00")
    assert "padding" in widgets.bytes_of(conns).draw()


def test_bytes_of_a_per_cpu_map_come_in_slots(per_cpu: Program) -> None:
    value = repr(widgets.bytes_of(per_cpu["longest"])).splitlines()[2]
    assert value.startswith("value  cpu 0 __u32: 00 00 00 00 | cpu 0 rounded up to 8: 00 00 00 00")


# --- explorers ------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [0, 1])
def test_a_hash_and_a_dict_differ_where_they_do(side: int) -> None:
    shown = widgets.explore()
    for key in range(4):
        assert shown.step("update", key, key, side=side)[2:] == ("done", "done")
    full = shown.step("update", 9, 9, side=side)
    assert "E2BIG" in full.map_said and full.dict_said == "done"
    exists = shown.step("update", 1, 9, "noexist", side=side)
    assert "EEXIST" in exists.map_said and exists.dict_said == "done"
    gone = shown.step("delete", 77, side=side)
    assert "ENOENT" in gone.map_said and gone.dict_said == "KeyError: 77"
    assert shown.step("lookup", 2, side=side)[2:] == ("2", "2")
    assert dict(shown.map) == {0: 0, 1: 1, 2: 2, 3: 3}
    shown.close()


@pytest.mark.parametrize("side", [0, 1])
def test_an_array_deletes_nothing(side: int) -> None:
    shown = widgets.explore("array")
    assert len(shown.dict) == 4  # it begins as full as the array
    assert "EINVAL" in shown.step("delete", 1, side=side).map_said
    assert repr(shown).splitlines()[1].split() == ["key", "map", "dict"]
    shown.close()


def test_an_explorer_takes_what_the_page_sends_and_names_what_will_not_do() -> None:
    shown = widgets.explore()
    sides = widgets.explorer.SIDES
    given = {"op": "update", "key": "1", "value": "5", "flags": "any", "side": sides[1]}
    shown.do("step", given)
    assert shown.map[1] == 5
    shown.do("step", given | {"key": "ten"})
    assert "That is no number" in shown.draw()
    shown.do("step", given | {"key": "-1"})
    assert "an integer from 0 to 4294967295" in shown.draw()
    assert len(shown.steps) == 1
    shown.close()


def test_an_lru_explorer_sees_who_lives_in_the_kernel() -> None:
    shown = widgets.explore_lru(10)
    for _ in range(3):
        shown.do("insert5", {})
    assert sum(there for _, there, _ in shown.lives()) == len(shown.map) < 10
    assert [key for key, _, exact in shown.lives() if exact] == list(range(6, 16))
    shown.do("touch", {"flow": "6"})
    assert 6 in shown.map
    assert next(reversed(shown.exact)) == 6
    shown.close()


# --- streams, CPUs, programs ----------------------------------------------------------------


def test_a_ring_is_seen_and_not_consumed() -> None:
    with load(text=RING, name="ring_view.bpf.c") as prog:
        shown = widgets.ring(prog["ring"])
        prog.run("keep", repeat=2)
        prog.run("give_up")
        read, written, records = shown.state()
        assert (read, written) == (0, 2 * 16 + 32)
        assert [(r.at, r.size, r.state) for r in records] == [
            (0, 8, "submitted"),
            (16, 8, "submitted"),
            (32, 20, "discarded"),
        ]
        assert "discarded" in repr(shown) and "producer at 64" in shown.draw()
        with prog.events("ring", record="none", lost=None) as stream:
            assert len(stream.raw()) == 2
        assert shown.state() == (64, 64, [])
        shown.close()


def test_a_ring_says_when_it_is_full_and_goes_over_its_end() -> None:
    with load(text=RING, name="ring_view.bpf.c") as prog:
        shown = widgets.ring(prog["ring"])
        assert prog.run("keep", repeat=300).retval == 1  # XDP_DROP: NULL
        assert "Full: the smallest reservation gives NULL." in repr(shown)
        with prog.events("ring", record="none", lost=None) as stream:
            held = len(stream.raw())
            prog.run("keep", repeat=held)
            read, written, records = shown.state()
            assert (written - read, len(records)) == (16 * held, held)
        shown.close()


def test_a_ring_view_refuses_other_maps(per_cpu: Program) -> None:
    with pytest.raises(LayoutError, match="this shows ring buffers"):
        Pages(per_cpu["shared"])


def test_a_race_loses_updates_in_one_way_and_not_in_the_others() -> None:
    shown = widgets.race(2_000_000)
    for way in ("plain", "atomic", "per-CPU"):
        shown.do("start", {"way": way})
        shown.wait()
    rows = {way: (made, counted, lost) for way, made, counted, lost in shown.rows()}
    assert {made for made, _, _ in rows.values()} == {"4,000,000"}
    assert rows["atomic"][1:] == rows["per-CPU"][1:] == ("4,000,000", "0")
    assert int(rows["plain"][2].replace(",", "")) > 0
    assert "Nothing runs." in shown.draw()
    shown.close()


def test_a_race_that_is_closed_stops_adding() -> None:
    shown = widgets.race(2_000_000_000)
    shown.do("start", {"way": "atomic"})
    shown.close()
    assert shown._thread and not shown._thread.is_alive()


def test_a_tail_call_graph_counts_fills_and_empties() -> None:
    names = {"count_tcp": "tcp", "count_udp": "udp"}
    with load("tail_calls.bpf.c") as prog:
        shown = widgets.tail_calls(prog, prog["protocols"], prog["counts"], names)
        shown.do("fill", {"program": "count_tcp", "slot": "6"})
        prog.run("dispatch", data=bytes(sandbox.tcp()), repeat=3)
        assert shown.edges() == [("6", "count_tcp", 3)]
        assert "slot 6: count_tcp, 3 calls" in shown.draw()
        shown.do("empty", {"slot": "6"})
        prog.run("dispatch", data=bytes(sandbox.tcp()))
        assert shown.edges() == [("6", "empty", 0)]
        assert repr(shown).endswith("fell through: 1")
        shown.do("fill", {"program": "other_type", "slot": "6"})
        assert "give sched_cls programs an array of their own" in shown.draw()


def test_a_flame_graph_zooms_and_searches() -> None:
    df = pd.DataFrame(
        {"path": [("main", "dear", "add"), ("main", "cheap"), ("main", "dear")], "n": [6, 2, 2]}
    )
    shown = widgets.flame(df, "path", "n")
    where = {path[-1]: (left, wide) for path, left, wide in shown.boxes()}
    assert where == {"main": (0, 1), "cheap": (0, 0.2), "dear": (0.2, 0.8), "add": (0.2, 0.6)}
    shown.do("search", {"value": "EA"})
    assert shown.matched() == 0.8 + 0.2  # "cheap", too
    shown.do("search", {"value": "add"})
    assert "60% of 10 n match" in shown.draw()
    shown.do("zoom", {"path": "main\x1fdear"})
    assert {path[-1] for path, _, _ in shown.boxes()} == {"main", "dear", "add"}
    shown.do("zoom", {"path": ""})
    assert repr(shown).splitlines() == ["60% of 10 n match", *TREE]


TREE = ["main 100%", "  cheap 20%", "  dear 80%", "    add 60%"]


def test_a_dashboard_shows_rates(per_cpu: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 100, 2))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    shown = widgets.dashboard(per_cpu["shared"])
    per_cpu["shared"][0] = 10
    html = shown.draw()
    assert shown.now() == [("0", 10, 5.0)]
    assert 'aria-label="0: 5.0 a second"' in html
    shown.do("pause", {})
    per_cpu["shared"][0] = 1000
    assert shown.draw() and shown.now() == [("0", 10, 5.0)]
    shown.do("pause", {})
    shown.draw()
    assert shown.now()[0][1] == 1000
    shown.do("window", {"value": "10 s"})
    assert repr(shown).startswith("shared, over 10 s")
