"""The part of libbpf.so.1 that the course uses, through ctypes.

Signatures follow <bpf/bpf.h> and <bpf/libbpf.h> of libbpf 1.1, the oldest that we support. Calls
that return int give a negative errno on failure; calls that return a pointer give NULL and set
``ctypes.get_errno()``. ctypes releases the GIL during each call.
"""

import contextlib
import ctypes as c
import functools
import threading
from collections.abc import Iterator

from helpers.errors import Unsupported

LOG_SIZE = 0xFFFFFF  # the largest verifier log that every kernel since 5.2 accepts


class BatchOpts(c.Structure):
    """struct bpf_map_batch_opts"""

    _fields_ = [("sz", c.c_size_t), ("elem_flags", c.c_uint64), ("flags", c.c_uint64)]


class MapCreateOpts(c.Structure):
    """struct bpf_map_create_opts of libbpf 1.1; later ones are longer, and say so by ``sz``"""

    _fields_ = [
        ("sz", c.c_size_t),
        ("btf_fd", c.c_uint32),
        ("btf_key_type_id", c.c_uint32),
        ("btf_value_type_id", c.c_uint32),
        ("btf_vmlinux_value_type_id", c.c_uint32),
        ("inner_map_fd", c.c_uint32),
        ("map_flags", c.c_uint32),
        ("map_extra", c.c_uint64),
        ("numa_node", c.c_uint32),
        ("map_ifindex", c.c_uint32),
    ]


class TestRunOpts(c.Structure):
    """struct bpf_test_run_opts"""

    _fields_ = [
        ("sz", c.c_size_t),
        ("data_in", c.c_void_p),
        ("data_out", c.c_void_p),
        ("data_size_in", c.c_uint32),
        ("data_size_out", c.c_uint32),
        ("ctx_in", c.c_void_p),
        ("ctx_out", c.c_void_p),
        ("ctx_size_in", c.c_uint32),
        ("ctx_size_out", c.c_uint32),
        ("retval", c.c_uint32),
        ("repeat", c.c_int),
        ("duration", c.c_uint32),
        ("flags", c.c_uint32),
        ("cpu", c.c_uint32),
        ("batch_size", c.c_uint32),
    ]


class MapInfo(c.Structure):
    """struct bpf_map_info, as far as kernel 5.10 fills it"""

    _fields_ = [
        ("type", c.c_uint32),
        ("id", c.c_uint32),
        ("key_size", c.c_uint32),
        ("value_size", c.c_uint32),
        ("max_entries", c.c_uint32),
        ("map_flags", c.c_uint32),
        ("name", c.c_char * 16),
        ("ifindex", c.c_uint32),
        ("btf_vmlinux_value_type_id", c.c_uint32),
        ("netns_dev", c.c_uint64),
        ("netns_ino", c.c_uint64),
        ("btf_id", c.c_uint32),
        ("btf_key_type_id", c.c_uint32),
        ("btf_value_type_id", c.c_uint32),
        ("btf_vmlinux_id", c.c_uint32),
    ]


class ProgInfo(c.Structure):
    """struct bpf_prog_info, its beginning"""

    _fields_ = [
        ("type", c.c_uint32),
        ("id", c.c_uint32),
        ("tag", c.c_uint8 * 8),
        ("jited_prog_len", c.c_uint32),
        ("xlated_prog_len", c.c_uint32),
        ("jited_prog_insns", c.c_uint64),
        ("xlated_prog_insns", c.c_uint64),
        ("load_time", c.c_uint64),
        ("created_by_uid", c.c_uint32),
        ("nr_map_ids", c.c_uint32),
        ("map_ids", c.c_uint64),
        ("name", c.c_char * 16),
        ("ifindex", c.c_uint32),
        ("gpl_compatible", c.c_uint32),
        ("netns_dev", c.c_uint64),
        ("netns_ino", c.c_uint64),
        ("nr_jited_ksyms", c.c_uint32),
        ("nr_jited_func_lens", c.c_uint32),
        ("jited_ksyms", c.c_uint64),
        ("jited_func_lens", c.c_uint64),
        ("btf_id", c.c_uint32),
    ]


_int, _u32, _size, _ptr, _str = c.c_int, c.c_uint32, c.c_size_t, c.c_void_p, c.c_char_p
RING_FN = c.CFUNCTYPE(c.c_int, c.c_void_p, c.c_void_p, c.c_size_t)
PERF_FN = c.CFUNCTYPE(None, c.c_void_p, c.c_int, c.c_void_p, c.c_uint32)
LOST_FN = c.CFUNCTYPE(None, c.c_void_p, c.c_int, c.c_uint64)
_PRINT = c.CFUNCTYPE(c.c_int, c.c_int, _str, _ptr)

_SIGNATURES: dict[str, tuple[type | None, list[type]]] = {
    # <bpf/bpf.h>: the system calls
    "bpf_map_create": (_int, [_int, _str, _u32, _u32, _u32, _ptr]),
    "bpf_prog_load": (_int, [_int, _str, _str, _ptr, c.c_size_t, _ptr]),
    "bpf_map_lookup_elem": (_int, [_int, _ptr, _ptr]),
    "bpf_map_lookup_elem_flags": (_int, [_int, _ptr, _ptr, c.c_uint64]),
    "bpf_map_update_elem": (_int, [_int, _ptr, _ptr, c.c_uint64]),
    "bpf_map_delete_elem": (_int, [_int, _ptr]),
    "bpf_map_get_next_key": (_int, [_int, _ptr, _ptr]),
    "bpf_map_lookup_batch": (_int, [_int, _ptr, _ptr, _ptr, _ptr, _ptr, _ptr]),
    "bpf_map_update_batch": (_int, [_int, _ptr, _ptr, _ptr, _ptr]),
    "bpf_map_delete_batch": (_int, [_int, _ptr, _ptr, _ptr]),
    "bpf_prog_test_run_opts": (_int, [_int, _ptr]),
    "bpf_link_create": (_int, [_int, _int, _int, _ptr]),
    "bpf_prog_attach": (_int, [_int, _int, _int, _u32]),
    "bpf_prog_detach2": (_int, [_int, _int, _int]),
    "bpf_obj_pin": (_int, [_int, _str]),
    "bpf_obj_get": (_int, [_str]),
    "bpf_obj_get_info_by_fd": (_int, [_int, _ptr, _ptr]),
    "bpf_prog_get_next_id": (_int, [_u32, _ptr]),
    "bpf_map_get_next_id": (_int, [_u32, _ptr]),
    "bpf_link_get_next_id": (_int, [_u32, _ptr]),
    "bpf_prog_get_fd_by_id": (_int, [_u32]),
    "bpf_map_get_fd_by_id": (_int, [_u32]),
    # <bpf/btf.h>
    "btf__load_from_kernel_by_id": (_ptr, [_u32]),
    "btf__raw_data": (_ptr, [_ptr, _ptr]),
    "btf__free": (None, [_ptr]),
    # <bpf/libbpf.h>: objects
    "libbpf_set_print": (_ptr, [_PRINT]),
    "libbpf_version_string": (_str, []),
    "libbpf_bpf_prog_type_str": (_str, [_int]),
    "libbpf_num_possible_cpus": (_int, []),
    "libbpf_probe_bpf_map_type": (_int, [_int, _ptr]),
    "bpf_object__open_file": (_ptr, [_str, _ptr]),
    "bpf_object__load": (_int, [_ptr]),
    "bpf_object__close": (None, [_ptr]),
    "bpf_object__btf": (_ptr, [_ptr]),
    "bpf_object__next_map": (_ptr, [_ptr, _ptr]),
    "bpf_object__next_program": (_ptr, [_ptr, _ptr]),
    "bpf_map__name": (_str, [_ptr]),
    "bpf_map__fd": (_int, [_ptr]),
    "bpf_map__type": (_int, [_ptr]),
    "bpf_map__key_size": (_u32, [_ptr]),
    "bpf_map__value_size": (_u32, [_ptr]),
    "bpf_map__max_entries": (_u32, [_ptr]),
    "bpf_map__map_flags": (_u32, [_ptr]),
    "bpf_map__btf_key_type_id": (_u32, [_ptr]),
    "bpf_map__btf_value_type_id": (_u32, [_ptr]),
    "bpf_map__reuse_fd": (_int, [_ptr, _int]),
    "bpf_program__name": (_str, [_ptr]),
    "bpf_program__section_name": (_str, [_ptr]),
    "bpf_program__type": (_int, [_ptr]),
    "bpf_program__fd": (_int, [_ptr]),
    "bpf_program__set_log_buf": (_int, [_ptr, _ptr, _size]),
    "bpf_program__set_log_level": (_int, [_ptr, _u32]),
    "bpf_program__attach": (_ptr, [_ptr]),
    "bpf_program__expected_attach_type": (_int, [_ptr]),
    "bpf_link__destroy": (_int, [_ptr]),
    # <bpf/libbpf.h>: buffers
    "ring_buffer__new": (_ptr, [_int, RING_FN, _ptr, _ptr]),
    "ring_buffer__poll": (_int, [_ptr, _int]),
    "ring_buffer__consume": (_int, [_ptr]),
    "ring_buffer__free": (None, [_ptr]),
    "perf_buffer__new": (_ptr, [_int, _size, PERF_FN, LOST_FN, _ptr, _ptr]),
    "perf_buffer__poll": (_int, [_ptr, _int]),
    "perf_buffer__consume": (_int, [_ptr]),
    "perf_buffer__free": (None, [_ptr]),
    "perf_buffer__epoll_fd": (_int, [_ptr]),
    "perf_buffer__buffer_cnt": (_size, [_ptr]),
    "perf_buffer__buffer": (_int, [_ptr, _int, _ptr, _ptr]),
}


@functools.cache
def lib() -> c.CDLL:
    """libbpf.so.1, loaded at the first call.

    Raises:
        Unsupported: the machine has no libbpf 1.x.
    """
    try:
        so = c.CDLL("libbpf.so.1", use_errno=True)
    except OSError as error:
        raise Unsupported(
            "libbpf 1.x (libbpf.so.1)", str(error), "Install it with: ./course install"
        ) from None
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(so, name)
        function.restype, function.argtypes = result, arguments
    so.libbpf_set_print(_print)
    return so


_said = threading.local()


@_PRINT
def _print(level: int, template: bytes, arguments: int) -> int:
    # libbpf hands us a va_list; a pointer to it is what vsnprintf wants on x86-64 and on arm64.
    lines = getattr(_said, "lines", None)
    if lines is not None and level <= 1:  # warnings and information; 2 is debugging
        text = c.create_string_buffer(4096)
        size = c.c_size_t(len(text))
        c.CDLL(None).vsnprintf(text, size, c.c_char_p(template), c.c_void_p(arguments))
        lines.append(text.value.decode(errors="replace").rstrip())
    return 0


@contextlib.contextmanager
def messages() -> Iterator[list[str]]:
    """Collect what libbpf says in this thread; outside of such a block it is silent."""
    before, _said.lines = getattr(_said, "lines", None), []
    lib().libbpf_set_print(_print)  # again: BCC shares libbpf, and takes the place for itself
    try:
        yield _said.lines
    finally:
        _said.lines = before
