"""What the rows about maps share: maps of connections, and the bare calls on them."""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd

from helpers import kernel, open_map
from helpers.libbpf import BatchOpts, lib
from helpers.maps import BpfMap

CHUNK = 1 << 16
KEYS, VALUES = ["src_ip", "dst_ip", "src_port", "dst_port"], ["packets", "bytes", "start_ns"]
_TEXT = """
struct key {{ u32 src_ip; u32 dst_ip; u16 src_port; u16 dst_port; }};
struct value {{ u64 packets; u64 bytes; u64 start_ns; }};
BPF_TABLE("{kind}", struct key, struct value, table, {size});
int nothing(void *ctx) {{ return 0; }}
"""


@contextmanager
def bcc_table(kind: str, size: int) -> Iterator[tuple[Any, BpfMap]]:
    """One map, with a key of 12 bytes and a value of 24, as BCC's table and as ours; empty."""
    module = kernel.import_bcc().BPF(text=_TEXT.format(kind=kind, size=size).encode())
    table = module[b"table"]
    try:
        with open_map(fd=table.map_fd) as ours:
            yield table, ours
    finally:
        kernel.free_bcc(module)


def connections(size: int) -> pd.DataFrame:
    """What to fill it with: no two keys alike."""
    n = np.arange(size, dtype="u8")
    columns = [n.astype("u4"), (n + 1).astype("u4"), (n & 0xFFFF).astype("u2")]
    columns += [np.full(size, 80, "u2"), n, 2 * n, 3 * n]
    return pd.DataFrame(dict(zip(KEYS + VALUES, columns, strict=True)))


def pairs(df: pd.DataFrame) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    keys, values = (zip(*(df[n].tolist() for n in names), strict=True) for names in (KEYS, VALUES))
    return list(zip(keys, values, strict=True))


def touched(rows: int, width: int) -> np.ndarray:
    """Memory that is there already: each page of it was written."""
    return np.full((rows, width), 1, "u1")


def batches(it: BpfMap, room: int) -> Callable[[], int]:
    """The bare loop of BPF_MAP_LOOKUP_BATCH; it gives how many entries came."""
    keys, values = (touched(room + 64, raw.shape[1]) for raw in it.raw())
    place = ctypes.create_string_buffer(max(8, it.key.size))
    got, opts = ctypes.c_uint32(), BatchOpts(ctypes.sizeof(BatchOpts))
    call, fd = lib().bpf_map_lookup_batch, it.fd

    def loop() -> int:
        read, error, begin = 0, 0, None
        while not error:
            got.value = min(CHUNK, len(keys) - read)
            into = (t.ctypes.data + read * t.shape[1] for t in (keys, values))
            error = call(fd, begin, place, *into, ctypes.byref(got), ctypes.byref(opts))
            read, begin = read + got.value, place
        return read

    return loop


def steps(it: BpfMap) -> Callable[[], int]:
    """The bare loop of BPF_MAP_GET_NEXT_KEY and BPF_MAP_LOOKUP_ELEM."""
    one, two, value = (ctypes.create_string_buffer(n) for n in (64, 64, 4096))
    step, look, fd = lib().bpf_map_get_next_key, lib().bpf_map_lookup_elem, it.fd

    def loop() -> int:
        read, key, found = 0, None, one
        while not step(fd, key, found):
            look(fd, found, value)
            read, key, found = read + 1, found, (two if found is one else one)
        return read

    return loop
