"""For random maps, frame() holds exactly what bpftool prints of them."""

import json
import random
import subprocess
from collections.abc import Iterator
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers import kernel, load
from helpers.libbpf import lib
from helpers.maps import BpfMap
from tests.ctypes_of import maps


@given(maps(), st.integers(0, 2**32), st.sampled_from(["bytes", "ascii", "zero"]))
@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_frame_is_what_bpftool_dumps(
    declared: tuple[str, str, int], seed: int, alphabet: str
) -> None:
    text, _, size = declared
    with load(text=text) as prog:
        it = prog["it"]
        fill(it, size, random.Random(seed), alphabet)
        compare(it)


def fill(it: BpfMap, size: int, rng: random.Random, alphabet: str) -> None:
    """Write random bytes, straight through the system call: any bytes are somebody's value."""

    def some(count: int) -> bytes:
        if alphabet == "ascii":
            return bytes(rng.choice(b"abcXYZ 019\0") for _ in range(count))
        return rng.randbytes(count) if alphabet == "bytes" else bytes(count)

    for i in range(rng.randint(0, size)):
        key = i.to_bytes(4, "little") if it.is_array else rng.randbytes(it.key.size)
        value = some(it._stride * it._copies)
        assert lib().bpf_map_update_elem(it.fd, key, value, 0) == 0


class Members(list[tuple[str, Any]]):
    """A JSON object whose names repeat: each anonymous member has the same."""


def compare(it: BpfMap) -> None:
    done = subprocess.run(
        [kernel.bpftool(), "-j", "map", "dump", "id", str(it.id)], check=True, capture_output=True
    )
    dumped = {}
    for entry in json.loads(done.stdout, object_pairs_hook=Members):
        entry = dict(entry)
        key = bytes(int(byte, 16) for byte in entry["key"])
        formatted = dict(entry["formatted"])
        if it.per_cpu:
            slots = [dict(slot) for slot in formatted["values"]]
            assert [slot["cpu"] for slot in slots] == list(range(it._copies))
            dumped[key] = [(formatted["key"], slot["value"]) for slot in slots]
        else:
            dumped[key] = [(formatted["key"], formatted["value"])]
    df, (keys, _) = it.frame(), it.raw()
    assert len(df) == len(keys) * it._copies == len(dumped) * it._copies
    names = list(df.columns)
    rows = list(df.itertuples(index=False, name=None))
    for n, raw in enumerate(keys):
        for copy in range(it._copies):
            row = dict(zip(names, rows[n * it._copies + copy], strict=True))
            if it.per_cpu:
                assert row.pop("cpu") == copy
            key, value = dumped[raw.tobytes()][copy]
            expected = [*flatten("key", key), *flatten("value", value)]
            assert len(expected) == len(row)
            for (name, theirs), (column, ours) in zip(expected, row.items(), strict=True):
                assert column in (name, name.partition(".")[2]), (column, name)
                assert same(ours, theirs), (column, ours, theirs)


def flatten(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """bpftool's nested objects as our columns: (anon) members belong to the struct around."""
    if isinstance(value, Members):
        for inner, one in value:
            yield from flatten(name if inner in ("", "(anon)") else f"{name}.{inner}", one)
    else:
        yield name, value


def parts(members: Members) -> Iterator[Any]:
    """The values of one struct's members."""
    for name, value in members:
        yield from parts(value) if name in ("", "(anon)") else [value]


def same(ours: Any, theirs: Any) -> bool:
    """Our Python value against bpftool's JSON: it writes wide integers and bitfields in hex,
    pointers and unprintable characters too, and knows enums by name."""
    if isinstance(ours, str | bytes):
        raw = ours.encode() if isinstance(ours, str) else ours
        if isinstance(theirs, str):
            raw = raw.partition(b"\0")[0]  # a key of ours keeps what follows
            return raw.replace(b"\\", b"\n") == theirs.encode()  # its JSON writer's own mistake
        whole = bytes(number(x) & 0xFF for x in theirs)
        return raw == whole or raw == whole.partition(b"\0")[0] or raw == whole.rstrip(b"\0")
    if isinstance(ours, tuple):
        theirs = [*parts(theirs)] if isinstance(theirs, Members) else theirs
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    if isinstance(theirs, str) and theirs in ENUM:
        return int(ours) == ENUM[theirs]
    ours, theirs = int(ours), number(theirs)
    # Signed bitfields it prints unsigned, unknown members of an unsigned enum signed.
    return ours == theirs or any(abs(ours - theirs) == 1 << n for n in range(1, 129))


ENUM = {"RED": 0, "GREEN": 7, "BLUE": 1000000, "UNDER": -1, "ZERO": 0, "NEAR": 0, "FAR": 1 << 40}


def number(shown: Any) -> int:
    return int(shown, 0) if isinstance(shown, str) else int(shown)
