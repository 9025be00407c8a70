"""What the kernel takes when a map is made: sizes of keys and values, and max_entries.

Asked by the bare system call: libbpf and BCC round some of these, or refuse them first.
"""

import ctypes
import os

import pytest

from helpers import load
from helpers.kernel import MAP_TYPES
from helpers.libbpf import MapCreateOpts, lib

PAGE = os.sysconf("SC_PAGE_SIZE")


def made(name: str, key: int, value: int, entries: int) -> str:
    """ "made", or what the kernel says instead."""
    opts = MapCreateOpts(ctypes.sizeof(MapCreateOpts))
    number = MAP_TYPES.index(name)
    fd = lib().bpf_map_create(number, b"", key, value, entries, ctypes.byref(opts))
    if fd < 0:
        return os.strerror(-fd)
    os.close(fd)
    return "made"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("array", 8),
        ("percpu_array", 8),
        ("prog_array", 4),
        ("perf_event_array", 4),
        ("stack_trace", 8),
        ("sockmap", 4),
    ],
)
def test_the_key_of_what_has_an_index_is_4_bytes(name: str, value: int) -> None:
    assert made(name, 4, value, 4) == "made"
    for key in (1, 2, 8):
        assert made(name, key, value, 4) == "Invalid argument"


@pytest.mark.parametrize("name", ["hash", "percpu_hash", "lru_hash", "sockhash"])
def test_the_key_of_what_is_looked_up_is_of_any_size(name: str) -> None:
    value = 4 if name == "sockhash" else 8
    for key in (1, 2, 4, 13, 100):
        assert made(name, key, value, 64) == "made"
    assert made(name, 0, value, 64) == "Invalid argument"


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("prog_array", {4}),  # a file descriptor
        ("perf_event_array", {4}),
        ("sockmap", {4, 8}),  # or a socket's cookie
        ("sockhash", {4, 8}),
        ("stack_trace", {8, 16, 8 * 127}),  # addresses, as many as perf_event_max_stack says
    ],
)
def test_what_the_kernel_takes_the_value_for_has_a_size(name: str, values: set[int]) -> None:
    tried = {1, 2, 4, 8, 12, 16, 8 * 127, 8 * 128}
    assert {value for value in tried if made(name, 4, value, 4) == "made"} == values


def test_a_ring_has_no_key_and_a_power_of_two_of_whole_pages() -> None:
    taken = [pages for pages in range(1, 17) if made("ringbuf", 0, 0, pages * PAGE) == "made"]
    assert taken == [1, 2, 4, 8, 16]
    for less in (1, 1024, 2048, PAGE - 1):
        assert made("ringbuf", 0, 0, less) == "Invalid argument"
    assert made("ringbuf", 4, 0, PAGE) == made("ringbuf", 0, 4, PAGE) == "Invalid argument"


def test_the_short_forms_of_bccs_macro() -> None:
    """Its defaults; docs/reference_guide.md of BCC names them."""
    text = "BPF_HASH({});\nint f(struct xdp_md *ctx) {{ return XDP_PASS; }}"
    for form, sizes in {
        "m": (8, 8, 10_240),
        "m, u32": (4, 8, 10_240),
        "m, u32, u16": (4, 2, 10_240),
        "m, u32, u16, 7": (4, 2, 7),
    }.items():
        with load(text=text.format(form), dialect="bcc") as prog:
            one = prog["m"]
            assert (one.key.size, one.value.size, one.max_entries) == sizes
