"""LRU hashes: what chapter 05 tells of them, and that its C twins agree."""

import errno
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

import pandas as pd
import pytest

from helpers import kernel, load, sandbox, source
from helpers.errors import LayoutError, MapFull
from helpers.maps import BpfMap
from helpers.program import Program

TWINS = ["lru.bpf.c", "lru.bcc.c"]
FIRST, *OTHERS = kernel.online_cpus()
UDP = sandbox.udp()


def packet(port: int) -> bytes:
    return UDP[:34] + port.to_bytes(2, "big") + UDP[36:]


def on_one_cpu(work: Callable[[], object]) -> None:
    """Which CPU inserts makes a difference, so let it be one."""
    sandbox.on_cpus([FIRST], work)


def insert(table: BpfMap, ports: Iterable[int]) -> None:
    on_one_cpu(lambda: table.update((port, 1) for port in ports))


def exact_lru(size: int, uses: Iterable[int]) -> set[int]:
    held: OrderedDict[int, None] = OrderedDict()
    for port in uses:
        held[port] = None
        held.move_to_end(port)
        if len(held) > size:
            held.popitem(last=False)
    return set(held)


@pytest.fixture(params=[10, 30, 100, 1_000, 10_000])
def sized(request: pytest.FixtureRequest) -> Iterator[tuple[int, Program]]:
    with load("lru.bpf.c", defines={"FLOWS": request.param}) as prog:
        yield request.param, prog


@pytest.fixture
def hundred() -> Iterator[Program]:
    with load("lru.bpf.c", defines={"FLOWS": 100}) as prog:
        yield prog


def test_the_newest_survive_but_not_as_many_as_in_an_exact_lru(sized: tuple[int, Program]) -> None:
    size, prog = sized
    insert(prog["cache"], range(size))
    assert len(prog["cache"]) <= size
    insert(prog["cache"], range(size, size + size // 2))
    left = set(prog["cache"])
    assert left <= exact_lru(size, range(size + size // 2))
    assert size + size // 2 - 1 in left
    assert 0.3 * size <= len(left) <= size
    assert size < 1_000 or len(left) > 0.85 * size


CROWD = """#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, SIZE);
	__type(key, __u32);
	__type(value, __u64);
} cache SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 16);
	__type(key, __s64);
	__type(value, __u64);
} said SEC(".maps");

SEC("xdp")
int insert(struct xdp_md *ctx)
{
	__u32 key = bpf_get_prandom_u32();
	__u64 one = 1, *before;
	__s64 err = bpf_map_update_elem(&cache, &key, &one, BPF_ANY);

	before = bpf_map_lookup_elem(&said, &err);
	if (before)
		(*before)++;
	else
		bpf_map_update_elem(&said, &err, &one, BPF_ANY);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
"""


@pytest.mark.skipif(not OTHERS, reason="needs two CPUs: give the machine another")
@pytest.mark.parametrize("size", [1, 10, 100])
def test_only_a_map_of_one_place_refuses_for_want_of_room(size: int) -> None:
    """When two CPUs insert at once, one may find nothing that it could evict."""
    with load(text=CROWD, defines={"SIZE": size}) as prog:

        def answers(cpus: list[int]) -> set[int]:
            prog["said"].clear()
            sandbox.on_cpus(cpus, lambda: prog.run("insert", repeat=200_000))
            return set(prog["said"])

        assert answers([FIRST]) == {0}
        met = set().union(*(answers([FIRST, OTHERS[0]]) for _ in range(3 if size > 1 else 1)))
        for _ in range(50):  # on a busy machine the two may seldom meet
            if size == 1 and met == {0}:
                met |= answers([FIRST, OTHERS[0]])
        assert met == ({0, -errno.ENOMEM} if size == 1 else {0})


def test_a_plain_hash_refuses_where_an_lru_evicts(hundred: Program) -> None:
    plain, cache = hundred["plain"], hundred["cache"]
    insert(plain, range(100))
    insert(cache, range(100))
    with pytest.raises(MapFull, match=r"100 of 100(.|\n)*LRU hash") as full:
        plain[1000] = 1
    assert full.value.errno_name == "E2BIG"
    on_one_cpu(lambda: cache.update({1000: 1}))
    assert 1000 in cache and 1000 not in plain and set(plain) == set(range(100))


def test_several_go_for_one_insert_and_the_newest_is_always_there(hundred: Program) -> None:
    cache, held = hundred["cache"], list[int]()

    def fill() -> None:
        for port in range(300):
            cache[port] = 1
            assert port in cache
            held.append(len(cache))

    on_one_cpu(fill)
    assert max(held) <= 100
    if kernel.cpus() <= 8:  # with more CPUs each asks for less, down to one at a time
        assert min(b - a for a, b in pairwise(held)) < 0


@pytest.mark.parametrize(
    ("use", "stays"),
    [
        (lambda prog: None, False),
        (lambda prog: prog["cache"].get(1), False),
        (lambda prog: prog["cache"].frame(), False),
        (lambda prog: prog["cache"].next_key(1), False),
        (lambda prog: prog.run("remember", data=packet(1)), True),
        (lambda prog: prog["cache"].update_elem(1, 2, flags="exist"), True),
    ],
    ids=["nothing", "get", "frame", "next_key", "a packet", "an update"],
)
def test_what_keeps_an_entry(
    hundred: Program, use: Callable[[Program], object], stays: bool
) -> None:
    def go() -> None:
        hundred["cache"][1] = 1
        for port in range(2, 302):
            use(hundred)
            hundred["cache"][port] = 1

    on_one_cpu(go)
    assert (1 in hundred["cache"]) == stays


def test_a_bit_outlives_newer_entries(hundred: Program) -> None:
    uses = [*range(100), *range(10), *range(100, 200)]
    on_one_cpu(lambda: [hundred.run("remember", data=packet(port)) for port in uses])
    left, exact = set(hundred["cache"]), exact_lru(100, uses)
    assert set(range(10)) <= left - exact
    assert exact - left


@pytest.mark.skipif(not OTHERS, reason="needs two CPUs: give the machine another")
def test_what_a_quiet_cpu_inserted_stays() -> None:
    with load("lru.bpf.c", defines={"FLOWS": 1_000}) as prog:
        cache = prog["cache"]
        sandbox.on_cpus(OTHERS[:1], lambda: cache.update({60_000: 1}))
        insert(cache, range(5_000))
        assert 60_000 in cache
        assert min(cache) > 3_000


def test_an_update_may_cost_others_and_an_addition_in_place_does_not(hundred: Program) -> None:
    cache = hundred["cache"]

    def cost(again: Callable[[int], object]) -> int:
        lost = []
        for port in range(300):
            cache[port] = 1
            before = len(cache)
            again(port)
            lost.append(before - len(cache))
        return max(lost)

    costs = list[int]()
    on_one_cpu(lambda: costs.append(cost(lambda port: cache.update({port: 2}))))
    on_one_cpu(lambda: costs.append(cost(lambda p: hundred.run("remember", data=packet(p)))))
    assert costs[0] >= 1
    assert costs[1] == 0


def test_without_a_common_lru_a_cpu_has_its_share_alone(hundred: Program) -> None:
    split, share = hundred["split"], hundred["split"].max_entries // kernel.cpus()
    insert(split, range(1000))
    assert len(split) <= share
    if OTHERS:
        before = set(split)
        sandbox.on_cpus(OTHERS[:1], lambda: split.update((p, 1) for p in range(1000, 2000)))
        assert before <= set(split)  # what one CPU inserted, another does not evict
        assert len(split) > len(before)


def test_without_a_common_lru_max_entries_is_rounded_up() -> None:
    with load("lru.bpf.c", defines={"FLOWS": 8 * kernel.cpus() + 1}) as prog:
        assert prog["cache"].max_entries == 8 * kernel.cpus() + 1
        assert prog["split"].max_entries == 9 * kernel.cpus()


def test_an_entry_of_an_lru_per_cpu_hash_goes_as_a_whole() -> None:
    with load("lru.bpf.c") as prog:
        counts = prog["per_cpu"]
        for cpu, times in zip([FIRST, *OTHERS[:1]], (3, 2), strict=False):
            once = packet(1)
            sandbox.on_cpus(
                [cpu],
                lambda once=once, times=times: prog.run(
                    "remember_per_cpu", data=once, repeat=times
                ),
            )
        assert sum(counts[1]) == (5 if OTHERS else 3)
        assert counts[1][FIRST] == 3
        on_one_cpu(
            lambda: [
                prog.run("remember_per_cpu", data=packet(port), repeat=2) for port in range(2, 40)
            ]
        )
        df = counts.frame()
        assert 1 not in set(df.key)
        assert len(df) == len(counts) * kernel.cpus() <= 10 * kernel.cpus()


@pytest.mark.parametrize("program", ["remember", "remember_per_cpu"])
def test_the_twins_agree(program: str) -> None:
    uses = [*range(15), *range(7), *range(15, 60), *range(50, 58)]

    def counted(name: str) -> pd.DataFrame:
        with load(name, defines={"FLOWS": 20}) as prog, sandbox.pair() as net:
            prog.attach(program, net.server)
            net.send([packet(port) for port in uses] + [sandbox.tcp()], cpu=FIRST)
            df = prog["cache" if program == "remember" else "per_cpu"].frame()
            by = [c for c in ("key", "cpu") if c in df]
            return df.sort_values(by, ignore_index=True)

    libbpf, bcc = (counted(name) for name in TWINS)
    pd.testing.assert_frame_equal(libbpf, bcc)
    assert 59 in set(libbpf.key) and 0 < libbpf.key.nunique() <= 20


def test_the_twins_declare_the_same_maps() -> None:
    def declared(name: str) -> dict[str, tuple[str, int, int]]:
        with load(name) as prog:
            return {n: (m.type, m.max_entries, m.flags) for n, m in prog.maps.items()}

    assert declared(TWINS[0]) == declared(TWINS[1])


@pytest.mark.parametrize(
    ("old", "new", "remedy"),
    [
        ("BPF_MAP_TYPE_LRU_HASH", "BPF_MAP_TYPE_HASH", "maps that evict(.|\n)*Leave it out"),
        ("BPF_F_NO_COMMON_LRU", "BPF_F_NO_PREALLOC", "Leave BPF_F_NO_PREALLOC out"),
        ("__uint(max_entries, FLOWS)", "__uint(max_entries, 0)", "max_entries above 0"),
    ],
)
def test_a_map_that_the_kernel_does_not_make_says_why(old: str, new: str, remedy: str) -> None:
    with pytest.raises(LayoutError, match=rf"as \w+ in lru.bpf.c:\d+ (.|\n)*{remedy}") as refused:
        load(text=source("lru.bpf.c").replace(old, new), name="lru.bpf.c")
    assert refused.value.errno


@pytest.mark.parametrize("kind", ["LRU_HASH", "HASH"])
def test_what_was_looked_up_may_be_anothers_entry_by_now(kind: str) -> None:
    """A hash that does not evict has to be told to delete, as another CPU may."""
    text = source("too_late.bpf.c")
    if kind == "HASH":
        text = text.replace("LRU_HASH", "HASH").replace(
            "\tfor (i = 2;", "\tbpf_map_delete_elem(&cache, &flow);\n\tfor (i = 2;"
        )
    with load(text=text, name="too_late.bpf.c") as prog:
        cache, found = prog["cache"], list[int]()
        for _ in range(5):
            cache.clear()
            cache[1] = 0
            assert prog.run("count_too_late").retval == 2
            assert 1 not in cache
            found += [flow for flow, packets in cache.items() if packets]
    assert found
