"""Maps that are written in bulk, and entry by entry."""

import ctypes

from helpers.libbpf import BatchOpts, lib
from tests.bench.measure import Row, Work, together
from tests.bench.tables import CHUNK, bcc_table, connections, pairs


def bulk_update(quick: bool) -> list[Row]:
    size = 50_000 if quick else 1_000_000
    what = f"update(df), {size:,} entries"
    with bcc_table("hash", size) as (_, ours):
        df = connections(size)
        both = pairs(df)
        ours.update(df)
        assert len(ours) == size and ours[both[7][0]] == both[7][1]
        keys, values = ours.raw()
        call, fd, opts = lib().bpf_map_update_batch, ours.fd, BatchOpts(ctypes.sizeof(BatchOpts))
        count = ctypes.c_uint32()

        def bare() -> None:
            for start in range(0, size, CHUNK):
                count.value = min(CHUNK, size - start)
                tables = (table.ctypes.data + start * table.shape[1] for table in (keys, values))
                assert not call(fd, *tables, ctypes.byref(count), ctypes.byref(opts))

        def singly() -> None:
            for key, value in both:
                ours[key] = value

        bulk = Work(lambda: ours.update(df), ours.clear)
        mine, base = together(4, bulk, Work(bare, ours.clear))
        (slow,) = together(1, Work(singly, ours.clear))
    bound = "the kernel takes each entry by itself: lock, hash, copy"
    return [
        Row(what, mine, "floor: bare update_batch", base, 1.5, bound),
        Row(what, mine, "a loop of m[k] = v", slow, 25, f"{bound}: {slow / base:.1f} times", True),
    ]


def single(quick: bool) -> list[Row]:
    times = 2_000 if quick else 10_000
    with bcc_table("hash", 1000) as (table, ours):
        ours.update(connections(1000))
        key, value = (5, 6, 5, 80), (5, 10, 15)
        raw_key = ctypes.create_string_buffer(ours.key.encode(key), ours.key.size)
        raw_value = ctypes.create_string_buffer(ours.value.encode(value), ours.value.size)
        look, put, fd = lib().bpf_map_lookup_elem, lib().bpf_map_update_elem, ours.fd
        make_key, make_leaf = table.Key, table.Leaf
        assert ours[key] == value

        def our_get() -> None:
            for _ in range(times):
                ours[key]

        def bare_get() -> None:
            for _ in range(times):
                look(fd, raw_key, raw_value)

        def their_get() -> None:
            for _ in range(times):
                leaf = table[make_key(*key)]
                _ = leaf.packets, leaf.bytes, leaf.start_ns

        def our_set() -> None:
            for _ in range(times):
                ours[key] = value

        def bare_set() -> None:
            for _ in range(times):
                put(fd, raw_key, raw_value, 0)

        def their_set() -> None:
            for _ in range(times):
                table[make_key(*key)] = make_leaf(*value)

        found = []
        for what, works in (
            ("m[k]", (our_get, bare_get, their_get)),
            ("m[k] = v", (our_set, bare_set, their_set)),
        ):
            mine, bare, theirs = (seconds / times for seconds in together(25, *works))
            bound = "ctypes, and Python's numbers to bytes and back"
            found.append(Row(what, mine, "floor: bare ctypes call", bare, 2.5, bound))
            most = f"ctypes: the bare call is {theirs / bare:.1f} times as fast as BCC"
            found.append(Row(what, mine, "BCC's table, numbers to numbers", theirs, 3, most, True))
    return found


WORKS = [bulk_update, single]
