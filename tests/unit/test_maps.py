"""BpfMap: a MutableMapping over the kernel's maps, and every error that a learner can cause."""

import os
import subprocess
import threading
from collections.abc import Iterator, MutableMapping
from pathlib import Path

import pandas as pd
import pytest

from helpers import errors, kernel, load, open_map
from helpers.errors import (
    BpfError,
    Closed,
    KeyExists,
    LayoutError,
    MapFull,
    MissingKey,
    NotFound,
    Unsupported,
)
from helpers.libbpf import lib
from helpers.maps import BpfMap
from helpers.program import Program

SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#define MAP(name, kind, k, v, n) \\
	struct { __uint(type, BPF_MAP_TYPE_##kind); __uint(max_entries, n); __type(key, k); \\
		 __type(value, v); } name SEC(".maps");
struct point { __u8 x; __u32 y; };
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u64);
} hash SEC(".maps");
MAP(points, HASH, struct point, struct point, 8)
MAP(lru, LRU_HASH, __u32, __u64, 64)
MAP(array, ARRAY, __u32, __u64, 4)
MAP(cpu_hash, PERCPU_HASH, __u32, __u32, 8)
MAP(cpu_array, PERCPU_ARRAY, __u32, __u64, 2)
MAP(big, HASH, __u64, __u64, 200000)
MAP(shared, HASH, struct point, struct point, 4)
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } ring SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_LPM_TRIE); __uint(max_entries, 9); __uint(key_size, 8);
	 __uint(value_size, 4); __uint(map_flags, BPF_F_NO_PREALLOC); } trie SEC(".maps");
"""


@pytest.fixture(scope="module")
def prog() -> Iterator[Program]:
    with load(text=SOURCE, name="maps.bpf.c") as loaded:
        yield loaded


@pytest.fixture
def hash_map(prog: Program) -> BpfMap:
    prog["hash"].clear()
    return prog["hash"]


def test_it_is_a_mutable_mapping(hash_map: BpfMap) -> None:
    assert isinstance(hash_map, MutableMapping)
    hash_map[1] = 10
    hash_map.update({2: 20, 3: 30})
    assert hash_map == {1: 10, 2: 20, 3: 30}
    assert (len(hash_map), 2 in hash_map, 9 in hash_map) == (3, True, False)
    assert (hash_map.get(9), hash_map.get(9, 7), hash_map.setdefault(3, 0)) == (None, 7, 30)
    assert hash_map.pop(2) == 20
    assert sorted(hash_map) == [1, 3]
    assert sorted(hash_map.values()) == [10, 30]
    assert sorted(hash_map.items()) == [(1, 10), (3, 30)]
    assert len([hash_map.popitem(), hash_map.popitem()]) == 2
    with pytest.raises(KeyError):
        hash_map.popitem()
    hash_map.update([(5, 50)])
    hash_map.clear()
    assert len(hash_map) == 0


def test_deleting_while_iterating_is_safe(prog: Program) -> None:
    big = prog["big"]
    big.update((i, i) for i in range(1000))
    for key in big:
        del big[key]
    assert len(big) == 0


def test_the_three_flags(hash_map: BpfMap) -> None:
    hash_map.update_elem(1, 10, flags="noexist")
    with pytest.raises(KeyExists, match="EEXIST") as exists:
        hash_map.update_elem(1, 11, flags="noexist")
    hash_map.update_elem(1, 12, flags="exist")
    with pytest.raises(MissingKey, match="ENOENT"):
        hash_map.update_elem(2, 20, flags="exist")
    hash_map.update_elem(1, 13, flags="any")
    hash_map.update_elem(2, 20)
    assert hash_map == {1: 13, 2: 20}
    assert exists.value.errno_name == "EEXIST"
    with pytest.raises(LayoutError, match="any, noexist, exist"):
        hash_map.update_elem(1, 1, flags="always")


def test_a_missing_key_is_a_key_error(hash_map: BpfMap) -> None:
    for act in (hash_map.__getitem__, hash_map.__delitem__):
        with pytest.raises(KeyError) as caught:
            act(77)
        assert isinstance(caught.value, BpfError)
        assert str(caught.value).startswith('hash has no key 77 (errno ENOENT, "No such')


def test_a_full_map_says_how_full_and_where(hash_map: BpfMap) -> None:
    for i in range(4):
        hash_map[i] = i
    with pytest.raises(MapFull, match=r"hash holds 4 of 4 entries(.|\n)*E2BIG(.|\n)*maps.bpf.c:10"):
        hash_map[4] = 4
    hash_map[3] = 33  # a key that is there may still be replaced
    with pytest.raises(MapFull):
        hash_map.update({9: 9, 3: 3})


def test_a_bulk_update_that_stops_keeps_what_it_wrote(hash_map: BpfMap) -> None:
    with pytest.raises(MapFull):
        hash_map.update({i: i for i in range(10)})
    assert len(hash_map) == 4


def test_wrong_keys_and_values_are_refused(prog: Program, hash_map: BpfMap) -> None:
    with pytest.raises(LayoutError, match="The key of hash: 'a' does not fit __u32"):
        hash_map["a"]
    with pytest.raises(LayoutError, match="The value of hash: -1 does not fit __u64"):
        hash_map[1] = -1
    with pytest.raises(LayoutError, match="The key of hash: 4294967296"):
        del hash_map[1 << 32]
    with pytest.raises(LayoutError, match="needs the field 'y'"):
        prog["points"][{"x": 1}] = (1, 2)
    with pytest.raises(LayoutError, match="list of 2 values|one for each possible CPU"):
        prog["cpu_array"][0] = 1
    with pytest.raises(LayoutError):
        hash_map.update({1: 1, 2: "two"})
    assert len(hash_map) == 0  # nothing was written


def test_an_array_is_always_there(prog: Program) -> None:
    array = prog["array"]
    assert dict(array) == {0: 0, 1: 0, 2: 0, 3: 0}
    array[2] = 5
    assert array.frame().value.tolist() == [0, 0, 5, 0]
    with pytest.raises(BpfError, match="cannot be deleted(.|\n)*Write zero") as refused:
        del array[2]
    assert refused.value.errno_name == "EINVAL"
    with pytest.raises(MissingKey, match="indexes 0 to 3 .errno ENOENT"):
        array[4]
    with pytest.raises(MissingKey, match="indexes 0 to 3 .errno E2BIG"):
        array[4] = 1
    with pytest.raises(KeyExists):
        array.update_elem(0, 1, flags="noexist")
    with pytest.raises(BpfError, match="cannot be deleted"):
        array.clear()
    assert len(array) == 4


def test_per_cpu_values_are_lists(prog: Program) -> None:
    count = kernel.cpus()
    values = list(range(10, 10 + count))
    for name in ("cpu_hash", "cpu_array"):
        it = prog[name]
        it[1] = values
        assert it[1] == values
        df = it.frame()
        one = df[df.key == 1]
        assert (one.cpu.tolist(), one.value.tolist()) == (list(range(count)), values)
        assert dict(it.items())[1] == values
        it.update({1: [0] * count})
        assert it[1] == [0] * count


def test_frame_names_columns_after_the_fields(prog: Program) -> None:
    shared = prog["shared"]
    shared[(1, 2)] = (3, 4)
    df = shared.frame()
    assert df.columns.tolist() == ["key.x", "key.y", "value.x", "value.y"]
    assert [str(t) for t in df.dtypes] == ["uint8", "uint32", "uint8", "uint32"]
    assert df.attrs == {
        "map": "shared",
        "type": "hash",
        "kernel": os.uname().release,
        "complete": True,
        "padded": 0,
    }


def test_an_empty_frame_has_its_columns(prog: Program) -> None:
    df = prog["points"].frame()
    assert (len(df), df.columns.tolist()) == (0, ["key.x", "key.y", "value.x", "value.y"])


def test_padding_makes_two_keys_of_one(prog: Program) -> None:
    points = prog["points"]
    points[(1, 2)] = (0, 0)
    with_garbage = b"\1\xaa\xbb\xcc\2\0\0\0"
    assert lib().bpf_map_update_elem(points.fd, with_garbage, bytes(8), 0) == 0
    df = points.frame()
    assert len(points) == 2
    assert df["key.x"].tolist() == [1, 1]
    assert df.attrs["padded"] == 1
    keys, _ = points.raw()
    assert sorted(row.tobytes() for row in keys) == sorted([b"\1\0\0\0\2\0\0\0", with_garbage])
    points.clear()
    assert len(points) == 0  # the one that we cannot write we can still delete


def test_bulk_and_single_reads_agree(prog: Program) -> None:
    big = prog["big"]
    big.update({i: i * i for i in range(200_000)})
    df = big.frame().sort_values("key", ignore_index=True)
    assert df.attrs["complete"]
    expected = pd.Series(range(200_000), dtype="uint64")
    pd.testing.assert_frame_equal(df, pd.DataFrame({"key": expected, "value": expected**2}))
    keys, values, complete = big._read_singly()
    assert complete
    assert dict(
        zip(keys.view("u8")[:, 0].tolist(), values.view("u8")[:, 0].tolist(), strict=True)
    ) == dict(big.items())
    big.clear()


def test_a_map_without_batch_is_read_one_by_one(prog: Program) -> None:
    trie = prog["trie"]
    for last in range(3):
        trie[32 | (0x0A000000 + last) << 32] = last
    assert sorted(trie.values()) == [0, 1, 2]
    assert len(trie.frame()) == 3


def test_reading_ends_while_others_write(prog: Program) -> None:
    big, stop = prog["big"], threading.Event()

    def churn() -> None:
        i = 0
        while not stop.is_set():
            big.update({i + j: 1 for j in range(2000)})
            for j in range(2000):
                big.pop(i + j, None)
            i += 2000

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(50):
            df = big.frame()
            assert df.key.is_unique
            assert df.attrs["complete"] is True
        keys, _, _ = big._read_singly()
        assert len({row.tobytes() for row in keys}) == len(keys)
    finally:
        stop.set()
        thread.join()
        big.clear()


def test_the_next_key_is_the_kernels(hash_map: BpfMap) -> None:
    hash_map.update({1: 1, 2: 2, 3: 3})
    first = hash_map.next_key()
    order = [first]
    while (key := hash_map.next_key(order[-1])) is not None:
        order.append(key)
    assert sorted(order) == [1, 2, 3]
    del hash_map[order[1]]
    assert hash_map.next_key(order[1]) == first  # it lost its place


def test_a_ring_buffer_is_no_mapping(prog: Program) -> None:
    ring = prog["ring"]
    for act in (ring.frame, lambda: len(ring), lambda: list(ring)):
        with pytest.raises(Unsupported, match="ring, a ringbuf map"):
            act()


def test_opening_by_each_way(prog: Program, hash_map: BpfMap) -> None:
    hash_map[1] = 5
    pin = kernel.PINS / "test_opening"
    kernel.make_pins(pin)
    assert lib().bpf_obj_pin(hash_map.fd, os.fsencode(pin)) == 0
    try:
        with (
            open_map(id=hash_map.id) as by_id,
            open_map(fd=hash_map.fd) as by_fd,
            open_map(pin=pin) as by_pin,
            open_map(name="cpu_array") as by_name,
        ):
            for it in (by_id, by_fd, by_pin):
                assert (it[1], it.id, it.name, str(it.key)) == (
                    5,
                    hash_map.id,
                    "hash",
                    "__u32 (4 bytes)",
                )
            assert by_name.id == prog["cpu_array"].id
        assert hash_map[1] == 5  # ours stayed open
    finally:
        pin.unlink()
        kernel.drop_pins()


def test_what_cannot_be_opened_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="The pin /sys/fs/bpf/none_such is not there"):
        open_map(pin="/sys/fs/bpf/none_such")
    with pytest.raises(NotFound, match="Map id 4294967295 is not there"):
        open_map(id=(1 << 32) - 1)
    with pytest.raises(NotFound, match="'none_such' has no map"):
        open_map(name="none_such")
    with pytest.raises(LayoutError, match="one of pin, id, name or fd"):
        open_map()
    with pytest.raises(LayoutError, match="one of"):
        open_map(id=1, name="x")
    with (tmp_path / "file").open("w") as file, pytest.raises(NotFound, match="else than a map"):
        open_map(fd=file.fileno())
    with pytest.raises(NotFound, match="is no pin"):
        open_map(pin=tmp_path / "file")
    with pytest.raises(Closed, match="is not open"):
        open_map(fd=123456)


def test_two_maps_of_one_name_are_not_guessed() -> None:
    text = SOURCE.replace("MAP(lru,", "MAP(twin_of_lru,")
    with (
        load(text=text) as one,
        load(text=text),
        pytest.raises(NotFound, match=f"the ids .*{one['twin_of_lru'].id}"),
    ):
        open_map(name="twin_of_lru")


def test_a_closed_map_says_so(prog: Program) -> None:
    it = open_map(id=prog["hash"].id)
    it.close()
    it.close()
    for act in (
        lambda: it[1],
        lambda: it.frame(),
        lambda: it.fd,
        lambda: it.clear(),
        lambda: list(it),
    ):
        with pytest.raises(Closed, match="hash is closed"):
            act()
    assert repr(it).endswith(", closed")


def test_maps_of_bpftool_without_types_are_numbers(tmp_path: Path) -> None:
    pin = kernel.PINS / "test_typeless"
    kernel.make_pins(pin)
    subprocess.run(
        f"{kernel.bpftool()} map create {pin} type hash key 4 value 3 entries 2 name none".split(),
        check=True,
    )
    try:
        with open_map(pin=pin) as it:
            it[1] = b"abc"
            assert it.frame().to_dict("list") == {"key": [1], "value": [b"abc"]}
    finally:
        pin.unlink()
        kernel.drop_pins()


def test_text_keys_show_as_text() -> None:
    text = (
        "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\nstruct name { char text[16]; };\n"
        "struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 9);"
        ' __type(key, struct name); __type(value, __u32); } names SEC(".maps");'
    )
    with load(text=text) as prog:
        names = prog["names"]
        names[("curl",)] = 1
        names[{"text": "größe"}] = 2
        names[(b"\xff\xfe",)] = 3
        assert names == {("curl",): 1, ("größe",): 2, (b"\xff\xfe",): 3}
        assert set(names.frame().text) == {"curl", "größe", b"\xff\xfe"}


def test_errors_are_typed_and_print_as_their_message() -> None:
    error = errors.MapFull("full", 7)
    assert isinstance(error, BpfError) and isinstance(error, OSError)
    assert (str(error), error.errno, error.errno_name) == ("full", 7, "E2BIG")
    assert error._render_traceback_() == ["MapFull: full"]
