"""``BpfMap``: any map in this kernel as a ``MutableMapping`` and as a DataFrame.

One class for maps of BCC, of libbpf, from a pin or from an id: it works on the file descriptor
and takes its types from the map's own BTF.
"""

import contextlib
import ctypes
import errno
import functools
import os
import platform
import re
import socket
import stat
import sys
from collections.abc import Callable, ItemsView, Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from helpers import btf, kernel
from helpers.btf import Layout, Types, gather, plain
from helpers.diagnostics import printable
from helpers.errors import (
    BpfError,
    Closed,
    KeyExists,
    LayoutError,
    MapFull,
    MissingKey,
    NotFound,
    PermissionNeeded,
    Unsupported,
    check_exhausted,
    describe,
    exhaustion_told,
)
from helpers.libbpf import BatchOpts, MapInfo, ProgInfo, lib

if TYPE_CHECKING:
    import pandas as pd

_LOCK = "struct bpf_spin_lock"
FLAGS = {"any": 0, "noexist": 1, "exist": 2, "lock": 4}  # BPF_ANY … BPF_F_LOCK
CHUNK = 1 << 16  # entries a system call, in bulk writes
_MOST, _LEAST = 1 << 14, 64  # entries a system call, in bulk reads,
_BYTES = 1 << 20  # and their bytes: they stay in the cache while their columns are cut
_ENOTSUPP = 524  # the kernel's own; no errno.h names it
# Maps whose values are file descriptors: of programs, of sockets, of other maps.
_OF_FILES = {"prog_array", "perf_event_array", "cgroup_array", "sockmap", "sockhash"} | {
    "array_of_maps",
    "hash_of_maps",
    "xskmap",
}
# <net/tcp_states.h>, in its order
_TCP_STATES = (
    "none ESTABLISHED SYN_SENT SYN_RECV FIN_WAIT1 FIN_WAIT2 TIME_WAIT CLOSE CLOSE_WAIT LAST_ACK "
    "LISTEN CLOSING NEW_SYN_RECV"
).split()
_UNREADABLE = {errno.EOPNOTSUPP, _ENOTSUPP}


# Keys and values as bytes, a row an entry, and whether the kernel kept its place until here.
Entries = tuple[np.ndarray, np.ndarray, bool]


class BpfMap(MutableMapping[Any, Any]):
    """A map in the kernel. Reads copy out of it, writes copy into it; nothing is cached.

    ``key`` and ``value`` are the layouts of its C types, see ``helpers.btf``. Per-CPU maps give
    and take a list with one value for each possible CPU. Closing forgets the map; the kernel
    frees it when nobody else, such as a program or a pin, holds it. A value with a bpf_spin_lock
    inside is read and written under it; without one, a value of more than 8 bytes that a program
    writes in place may be read half old, half new.

    Source: bpf(2); Documentation/bpf/maps.rst.
    """

    def __init__(self, fd: int, *, name: str = "", place: Callable[[], str] = str) -> None:
        """Take over the file descriptor ``fd``. ``place`` tells where the C declares it."""
        self._fd = fd
        info = MapInfo()
        size = ctypes.c_uint32(ctypes.sizeof(info))
        error = lib().bpf_obj_get_info_by_fd(fd, ctypes.byref(info), ctypes.byref(size))
        if error:
            raise BpfError(f"File descriptor {fd} is no BPF map: {describe(-error)}", -error)
        self.name = name or info.name.decode(errors="replace")
        self._place = place
        self.id, self.max_entries, self.flags = info.id, info.max_entries, info.map_flags
        self.type = kernel.map_type(info.type)
        self.key, self.value = _layouts(
            btf.raw(info.btf_id) if info.btf_id else None,
            info.btf_key_type_id,
            info.btf_value_type_id,
            info.key_size,
            info.value_size,
        )
        self.per_cpu = "percpu" in self.type
        self.is_array = self.type in ("array", "percpu_array")
        self._stride = (info.value_size + 7) // 8 * 8 if self.per_cpu else info.value_size
        self._copies = kernel.cpus() if self.per_cpu else 1
        self._buffer = ctypes.c_char * (self._stride * self._copies)
        self._key_buffer = ctypes.c_char * info.key_size
        so = lib()
        self._lookup, self._update = so.bpf_map_lookup_elem_flags, so.bpf_map_update_elem
        # Whoever holds the lock inside a value has it half written.
        locked = any(m.layout.ctype == _LOCK for m in getattr(self.value, "members", ()))
        self._under_lock = FLAGS["lock"] if locked else 0

    # --- one entry ------------------------------------------------------------------------

    def __getitem__(self, key: Any) -> Any:
        buffer = self._buffer()
        error = self._lookup(self._fd, self._raw_key(key), buffer, self._under_lock)
        if error:
            self._fail(-error, "look up", key)
        return self._decode(buffer)

    def __setitem__(self, key: Any, value: Any) -> None:
        raw_value = self._raw_value(value)
        error = self._update(self._fd, self._raw_key(key), raw_value, self._under_lock)
        if error:
            self._fail(-error, "update", key, raw_value)

    def update_elem(self, key: Any, value: Any, flags: str = "any") -> None:
        """Write one entry, as bpf_map_update_elem() does.

        ``flags``: "any" creates or replaces, "noexist" only creates, "exist" only replaces,
        "lock" takes the spin lock inside the value.

        Raises:
            KeyExists: "noexist", and the key is there (EEXIST).
            MissingKey: "exist", and the key is not there (ENOENT).
            MapFull: the key is new, and the map holds max_entries (E2BIG).
            LayoutError: key or value do not fit their C types.
        """
        if flags not in FLAGS:
            raise LayoutError(f"flags is one of {', '.join(FLAGS)}, not {flags!r}.")
        raw_key, raw_value = self._raw_key(key), self._raw_value(value)
        error = self._update(self._fd, raw_key, raw_value, FLAGS[flags])
        if error:
            self._fail(-error, "update", key, raw_value)

    def __delitem__(self, key: Any) -> None:
        error = lib().bpf_map_delete_elem(self._fd, self._raw_key(key))
        if error:
            self._fail(-error, "delete", key)

    def __contains__(self, key: object) -> bool:
        error = self._lookup(self._fd, self._raw_key(key), self._buffer(), self._under_lock)
        if error and -error != errno.ENOENT:
            self._fail(-error, "look up", key)
        return not error

    def next_key(self, key: Any = None) -> Any:
        """The key that the kernel has after ``key``; the first one for None, None at the end.

        A hash map has no order but its buckets'. After a key that is not in the map, the kernel
        starts again at the first. Source: bpf(2), BPF_MAP_GET_NEXT_KEY.
        """
        raw = self._next_raw(None if key is None else self._raw_key(key))
        return None if raw is None else self.key.decode(raw)

    def _next_raw(self, raw: bytes | None) -> bytes | None:
        found = self._key_buffer()
        error = lib().bpf_map_get_next_key(self._fd, raw, found)
        if error == -errno.ENOENT:
            return None
        if error:
            self._fail(-error, "iterate over", None)
        return found.raw

    # --- all of it ------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Any]:
        """The keys of this moment: deleting while you iterate is safe here."""
        keys, _, _ = self._read()
        return (self.key.decode(row.tobytes()) for row in keys)

    def __len__(self) -> int:
        if self.is_array:
            return self.max_entries
        return sum(len(keys) for keys, _, _ in self._pieces())

    def items(self) -> ItemsView[Any, Any]:
        """Keys and values of this moment, read in bulk."""
        return _Items(self)

    def raw(self) -> tuple[np.ndarray, np.ndarray]:
        """Every byte that the map holds: two uint8 tables, a row an entry, of keys and of values.

        Shows what decoding hides: padding. Values of per-CPU maps are one row, a slot of
        ``value_size`` rounded up to 8 bytes for each possible CPU.
        """
        keys, values, _ = self._read()
        return keys, values

    def frame(self) -> "pd.DataFrame":
        """Read the whole map into a DataFrame, in bulk.

        One row a key (a key and possible CPU for per-CPU maps, with a ``cpu`` column), columns
        named after the fields of the C structs, ``key`` and ``value`` for scalars. Integers keep
        their width and sign. A name that key and value share gets the prefix key. or value.

        The kernel gives no snapshot. ``attrs["complete"]`` is True when each key that was there all
        the time is in the frame, once; what came or went meanwhile may be in it or not. It is False
        when entries moved while we read, and keys that were there may be missing. An LPM trie is
        read twice to tell.
        ``attrs["padded"]`` counts the keys with something else than zeros in their padding.

        Cost: one system call for up to 16,384 entries where the kernel has BPF_MAP_LOOKUP_BATCH for
        the type, else two an entry. Memory: the frame, and a buffer of about a MiB.

        Raises:
            Unsupported: the map cannot be read by key (a ring buffer, say).
            Closed: the map was closed.

        Source: bpf(2), BPF_MAP_LOOKUP_BATCH; Documentation/bpf/map_hash.rst.
        """
        import pandas as pd

        attrs = {"complete": True, "padded": 0}

        def tables() -> Iterator[dict[str, np.ndarray]]:
            for keys, values, attrs["complete"] in self._pieces():
                if self.key.padding:
                    gaps = np.concatenate([np.arange(at, at + n) for at, n in self.key.padding])
                    attrs["padded"] += int(keys[:, gaps].any(axis=1).sum())
                yield self._columns(keys, values)

        df = pd.DataFrame(gather(tables(), self.max_entries * self._copies), copy=False)
        told = {"map": self.name, "type": self.type, "kernel": platform.release()}
        df.attrs |= told | attrs
        return df

    def _columns(self, keys: np.ndarray, values: np.ndarray) -> dict[str, np.ndarray]:
        """Cut entries into the columns of a frame."""
        left = list(self.key.columns(keys, 0, ""))
        right = list(self.value.columns(values.reshape(-1, self._stride), 0, ""))
        if self.per_cpu:
            left = [(name, np.repeat(column, self._copies)) for name, column in left]
            left.append(("cpu", np.tile(np.arange(self._copies), len(keys))))
        names = {name for name, _ in left} & {name for name, _ in right}
        data = {_column(name, "key", names): column for name, column in left}
        return data | {_column(name, "value", names): column for name, column in right}

    def update(self, other: Any = (), /, **named: Any) -> None:
        """Write many entries in bulk: a mapping or pairs, as ``dict.update`` takes them, or a
        DataFrame with the columns that ``frame()`` gives.

        A frame for a per-CPU map has a row for each key and possible CPU. The index is left out of
        account; of rows with the same key, the last one stays.

        Cost: one system call for 65,536 entries where the kernel has BPF_MAP_UPDATE_BATCH for the
        type, else one an entry. A frame is encoded column by column; text, arrays and bitfields
        row by row.

        Raises:
            MapFull: the message says how many were written before.
            LayoutError: a column is missing, or one too many; what a row holds does not fit its C
                type, as a missing value fits no integer. Nothing was written.
        """
        if hasattr(other, "columns"):
            self._write(*self._tables(other))
            other = ()
        pairs = [*(other.items() if isinstance(other, Mapping) else other), *named.items()]
        if pairs:
            raw = map(self._raw_key, (k for k, _ in pairs)), (self._raw_value(v) for _, v in pairs)
            keys, values = (np.frombuffer(b"".join(side), "u1") for side in raw)
            self._write(keys.reshape(len(pairs), -1), values.reshape(len(pairs), -1))

    def _write(self, keys: np.ndarray, values: np.ndarray) -> None:
        for start in range(0, len(keys), CHUNK):
            part = slice(start, start + CHUNK)
            done = self._batch("update", keys[part], values[part])
            for i in range(start + done, min(start + CHUNK, len(keys))):
                # No batch here, or it stopped: go on singly.
                raw_key, raw_value = keys[i].tobytes(), values[i].tobytes()
                error = self._update(self._fd, raw_key, raw_value, self._under_lock)
                if error:
                    self._fail(-error, "update", self.key.decode(raw_key), raw_value)

    def _tables(self, df: "pd.DataFrame") -> tuple[np.ndarray, np.ndarray]:
        """Keys and values of a frame, as bytes."""
        both = (self.key, self.value)
        empty = (np.empty((0, layout.size), "u1") for layout in both)
        sides = [
            [name for name, _ in layout.columns(table, 0, "")]
            for layout, table in zip(both, empty, strict=True)
        ]
        shared = set(sides[0] + ["cpu"] * self.per_cpu) & set(sides[1])
        titles = [
            {name: _column(name, side, shared) for name in names}
            for side, names in zip(("key", "value"), sides, strict=True)
        ]
        cpu = [_column("cpu", "key", shared)] if self.per_cpu else []
        wanted, given = [*titles[0].values(), *cpu, *titles[1].values()], list(df.columns)
        for what, found in (
            ("lacks the column", [name for name in wanted if name not in given]),
            ("has one column too many,", [name for name in given if name not in wanted]),
            ("has twice the column", [name for name in given if given.count(name) > 1]),
        ):
            if found:
                raise LayoutError(
                    f"The frame for {self.name} {what} {found[0]!r}.\n"
                    f"It takes those of .frame(): {', '.join(wanted)}."
                )
        tables = []
        for layout, names, stride in zip(both, titles, (0, self._stride), strict=True):
            table = np.zeros((len(df), stride or layout.size), "u1")
            columns = {name: df[title].to_numpy() for name, title in names.items()}
            try:
                layout.fill(table, 0, "", columns.__getitem__)
            except LayoutError as error:
                raise LayoutError(f"The frame for {self.name}: {error}") from None
            tables.append(table)
        keys, values = tables
        return self._beside(keys, values, df[cpu[0]].to_numpy()) if cpu else (keys, values)

    def _beside(
        self, keys: np.ndarray, values: np.ndarray, cpus: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """From a row for each key and CPU to a row a key, with the values of its CPUs."""
        whole = np.ascontiguousarray(keys).view(f"V{self.key.size}")[:, 0]
        _, first, which = np.unique(whole, return_index=True, return_inverse=True)
        complete = cpus.dtype.kind in "iu" and len(cpus) == len(first) * self._copies
        if complete and len(cpus):
            complete = bool(cpus.min() >= 0 and cpus.max() < self._copies)
        places = which * self._copies + cpus.astype("i8") if complete else which
        if not complete or len(np.unique(places)) < len(places):
            raise LayoutError(
                f"The frame for {self.name}: each key needs one row for each of the "
                f"{self._copies} possible CPUs, from 0 on, in the column 'cpu'."
            )
        table = np.zeros((len(places), self._stride), "u1")
        table[places] = values
        return keys[first], table.reshape(len(first), self._copies * self._stride)

    def clear(self) -> None:
        """Delete every entry, in bulk.

        Raises:
            BpfError: entries of an array cannot be deleted (EINVAL).
        """
        keys, _, _ = self._read()
        for start in range(0, len(keys), CHUNK):
            part = keys[start : start + CHUNK]
            done = self._batch("delete", part)
            for row in part[done:]:
                error = lib().bpf_map_delete_elem(self._fd, row.tobytes())
                if error and error != -errno.ENOENT:  # gone already: somebody else was faster
                    self._fail(-error, "delete", self.key.decode(row.tobytes()))

    def _batch(self, what: str, *tables: np.ndarray) -> int:
        """Update or delete entries in one call; returns how many were done."""
        count = len(tables[0])
        opts = BatchOpts(ctypes.sizeof(BatchOpts), self._under_lock if what == "update" else 0)
        done, function = ctypes.c_uint32(count), getattr(lib(), f"bpf_map_{what}_batch")
        places = [table.ctypes.data for table in tables]
        error = function(self._fd, *places, ctypes.byref(done), ctypes.byref(opts))
        if error in (-errno.EINVAL, -errno.EOPNOTSUPP, -_ENOTSUPP, -errno.EFAULT):
            return 0  # the count means nothing then
        return min(done.value, count)

    def _read(self) -> Entries:
        """All of it at once."""
        keys, values, complete = zip(
            *((keys.copy(), values.copy(), whole) for keys, values, whole in self._pieces()),
            strict=True,
        )
        return np.concatenate(keys), np.concatenate(values), complete[-1]

    def _pieces(self) -> Iterator[Entries]:
        """All keys and values, piece by piece: each is good until the next one is asked for."""
        if not self.key.size:
            self._fail(errno.EOPNOTSUPP, "read", None)
        if self.type != "lpm_trie":
            yield from self._batches() or [self._read_singly()]
            return
        # The kernel goes from key to key through a tree here, in batches too. A tree that changes
        # meanwhile sends it back, so that keys come twice, or hides a branch, of which nothing
        # tells: only what two readings agree about is complete.
        keys, values, whole = self._read_tree()
        again, _, still = self._read_tree()
        one, other = (np.sort(k.view(f"V{self.key.size}")[:, 0]) for k in (keys, again))
        same = np.array_equal(one, other)
        yield keys, values, whole and still and same

    def _read_tree(self) -> Entries:
        """Each key once, and whether none came twice."""
        found, room = list[Entries](), self._steps
        for keys, values, whole in self._batches() or [self._read_singly()]:
            room -= len(keys)
            found.append((keys.copy(), values.copy(), whole and room >= 0))
            if room < 0:
                break
        keys, values = (np.concatenate([piece[i] for piece in found]) for i in (0, 1))
        _, first = np.unique(keys.view(f"V{self.key.size}")[:, 0], return_index=True)
        first.sort()
        return keys[first], values[first], found[-1][2] and len(first) == len(keys)

    def _batches(self) -> Iterator[Entries] | None:
        """The same by BPF_MAP_LOOKUP_BATCH; None where the kernel has none for the type.

        A hash is read bucket by bucket, each under its lock, and no key ever changes its bucket:
        so a key that stays is found once.
        """
        width, stride = self.key.size, self._stride * self._copies
        opts = BatchOpts(ctypes.sizeof(BatchOpts), self._under_lock)
        got = ctypes.c_uint32()
        place = ctypes.create_string_buffer(max(width, 8))
        ask = max(_LEAST, min(_MOST, _BYTES // (width + stride), self.max_entries + _LEAST))
        keys, values = np.empty((ask, width), "u1"), np.empty((ask, stride), "u1")

        def step(begin: Any) -> int:
            nonlocal keys, values
            while True:
                got.value = len(keys)
                error = lib().bpf_map_lookup_batch(
                    self._fd,
                    begin,
                    place,
                    keys.ctypes.data,
                    values.ctypes.data,
                    ctypes.byref(got),
                    ctypes.byref(opts),
                )
                if error != -errno.ENOSPC:
                    return error
                # One bucket holds more than we asked for.
                keys, values = (np.empty((2 * len(t), t.shape[1]), "u1") for t in (keys, values))

        def pieces(error: int) -> Iterator[Entries]:
            while not error:
                yield keys[: got.value], values[: got.value], True
                error = step(place)
            # EINTR: the kernel gave up on a key that kept vanishing.
            if error not in (-errno.ENOENT, -errno.EINTR):
                self._fail(-error, "read", None)
            yield keys[: got.value], values[: got.value], error == -errno.ENOENT

        error = step(None)
        refused = error in (-errno.EINVAL, -errno.EOPNOTSUPP, -_ENOTSUPP)
        return None if refused else pieces(error)

    @property
    def _steps(self) -> int:
        """From key to key, how far a reading goes that the kernel sends back again and again."""
        return 4 * self.max_entries + 64

    def _read_singly(self) -> Entries:
        found: dict[bytes, bytes] = {}
        complete, key = True, self._next_raw(None)
        # A key that is deleted under us sends the kernel back to its first: then we see keys
        # again, and give up when it happens for ever.
        steps = 0
        while key is not None and steps <= self._steps:
            steps += 1
            complete = complete and key not in found
            buffer = self._buffer()
            error = self._lookup(self._fd, key, buffer, self._under_lock)
            if not error:
                found[key] = buffer.raw
            elif error != -errno.ENOENT:
                self._fail(-error, "read", self.key.decode(key))
            key = self._next_raw(key)
        keys = np.frombuffer(b"".join(found), "u1").reshape(-1, self.key.size)
        stride = self._stride * self._copies
        values = np.frombuffer(b"".join(found.values()), "u1").reshape(len(keys), stride)
        return keys, values, complete and key is None

    # --- life -----------------------------------------------------------------------------

    @property
    def fd(self) -> int:
        """The file descriptor.

        Raises:
            Closed: there is none any more.
        """
        if self._fd < 0:
            self._fail(errno.EBADF, "use", None)
        return self._fd

    def fileno(self) -> int:
        """The file descriptor: a map can be the value of a map of maps."""
        return self.fd

    @property
    def memory(self) -> int:
        """The bytes of kernel memory that the map takes now, by the kernel's own reckoning.

        Before 6.4 the kernel reckons it once, from max_entries.

        Source: /proc/PID/fdinfo, "memlock"; Documentation/filesystems/proc.rst.
        """
        return self._said_by_kernel("memlock")

    def _said_by_kernel(self, field: str) -> int:
        """A number that /proc tells of our file descriptor; 0 when this kernel does not tell it."""
        text = Path(f"/proc/self/fdinfo/{self.fd}").read_text()
        found = re.search(rf"^{field}:\s*(\d+)", text, re.MULTILINE)
        return int(found[1]) if found else 0

    @exhaustion_told("pin the map")
    def pin(self, name: str | os.PathLike[str] = "") -> Path:
        """Give the map a name in the BPF file system, where it outlives this process.

        ``name`` is put into this notebook's own folder there, and is the map's own when it is not
        given; an absolute path is taken as it is. Returns the path, for ``open_map(pin=…)``.

        Raises:
            BpfError: the name is taken (EEXIST), or holds a dot, which the BPF file system
                refuses (EPERM).
            NotFound: the path leads through a folder that is not there (ENOENT).
            Unsupported: the path is not in a mounted BPF file system.
            PermissionNeeded: not allowed to.

        Source: bpf(2), BPF_OBJ_PIN; Documentation/bpf/maps.rst.
        """
        path = kernel.PINS / (name or self.name)
        inside = path.parts[len(kernel.PINS.parts) :] if kernel.PINS in path.parents else ()
        if any("." in part for part in (*inside, path.name)):
            raise BpfError(
                f"The pin {'/'.join(inside) or path.name} has a dot in it, which the BPF file "
                f"system keeps for itself (errno {describe(errno.EPERM)}).\nUse an underscore.",
                errno.EPERM,
            )
        raw = _path(path)
        kernel.make_pins(path)
        error = lib().bpf_obj_pin(self.fd, raw)
        if error == -errno.EEXIST:
            raise BpfError(
                f"There is a pin {path} already (errno {describe(errno.EEXIST)}).\n"
                "Open it with open_map(pin=…), or remove it: it may hold somebody's data.",
                errno.EEXIST,
            )
        if error == -errno.ENOENT:
            raise NotFound(
                f"There is no folder {path.parent} (errno {describe(errno.ENOENT)}).\n"
                "Make it first, or give a name alone: it goes into the course's own folder.",
                errno.ENOENT,
            )
        if error:
            self._fail(-error, f"pin as {path}", None)
        return path

    def unpin(self, name: str | os.PathLike[str] = "") -> None:
        """Remove a pin of this map; the map lives on while anything else holds it.

        Raises:
            NotFound: there is no such pin, or it is another map's.
        """
        path = kernel.PINS / (name or self.name)
        with open_map(pin=path) as there:
            if there.id != self.id:
                raise NotFound(f"The pin {path} is another map's, with the id {there.id}.")
        path.unlink()
        kernel.drop_pins()

    def close(self) -> None:
        """Forget the map. Closing twice is fine."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> "BpfMap":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            self.close()

    def __repr__(self) -> str:
        kind = self.type.replace("_", " ")
        key, value = (layout.ctype for layout in (self.key, self.value))
        state = "" if self._fd >= 0 else ", closed"
        told = f"{self.name}: {kind} map, {key} → {value}, max_entries {self.max_entries}{state}"
        return printable(told)

    # --- bytes and errors -----------------------------------------------------------------

    def _raw_key(self, key: Any) -> bytes:
        try:
            return self.key.encode(key)
        except LayoutError as error:
            raise LayoutError(f"The key of {self.name}: {error}") from None

    def _raw_value(self, value: Any) -> bytes:
        if self.type in _OF_FILES and hasattr(value, "fileno"):
            value = value.fileno()
            if value < 0:
                raise LayoutError(f"The value of {self.name} is closed: it has no file any more.")
        try:
            if not self.per_cpu:
                return self.value.encode(value)
            if not isinstance(value, list | tuple) or len(value) != self._copies:
                raise LayoutError(
                    f"{value!r} is not a list of {self._copies} values, one for each possible CPU."
                )
            gap = bytes(self._stride - self.value.size)
            return b"".join(self.value.encode(one) + gap for one in value)
        except LayoutError as error:
            raise LayoutError(f"The value of {self.name}: {error}") from None

    def _decode(self, buffer: Any) -> Any:
        if not self.per_cpu:
            return self.value.decode(buffer)
        return [self.value.decode(buffer, i * self._stride) for i in range(self._copies)]

    def _fail(self, number: int, what: str, key: Any, raw_value: bytes = b"") -> NoReturn:
        """Turn an errno into the error that a learner should read."""
        why, name = f"(errno {describe(number)})", self.name
        if self.type == "prog_array" and number in (errno.EINVAL, errno.EBADF) and self._fd >= 0:
            self._check_program(raw_value, why, number)
        if self.type in ("sockmap", "sockhash") and self._fd >= 0:
            self._check_socket(number, what, key, raw_value)
        if number == errno.EBADF or self._fd < 0:
            raise Closed(
                f"{name} is closed, and the kernel may have freed it {why}.\n"
                "Its program was closed, or its cell was run again. Load it again, or work inside "
                "the with block."
            )
        if number in _UNREADABLE:
            raise Unsupported(
                "a map whose entries are read and written by key",
                f"{name}, a {self.type} map",
                "Ring and perf buffers are streams. Other types take only what their chapter says.",
            )
        if number in (errno.EPERM, errno.EACCES):
            if self._said_by_kernel("frozen"):
                raise PermissionNeeded(
                    f"{what} {name}, which is frozen: user space may only read it",
                    "Constants are set before the program is loaded: load(…, defines={…}).",
                )
            raise PermissionNeeded(f"{what} {name}, or the map was made read-only")
        past_the_end = (
            self.type == "prog_array"
            and key is not None
            and self.key.decode(self._raw_key(key)) >= self.max_entries
        )
        if (self.is_array or past_the_end) and number in (errno.ENOENT, errno.E2BIG):
            raise MissingKey(
                f"{name} has no index {key!r}: it has the indexes 0 to {self.max_entries - 1} "
                f"{why}.\nAn array never grows. Raise max_entries{self._in_place()}.",
                number,
            )
        if self.is_array and number == errno.EINVAL and what == "delete":
            raise BpfError(
                f"{name} is an array: its entries are always there and cannot be deleted {why}.\n"
                "Write zero instead, or use a hash map.",
                number,
            )
        if self.type == "stack_trace" and number == errno.EINVAL and what == "update":
            raise BpfError(
                f"{name} takes stacks from the kernel alone {why}.\n"
                "A program puts them there with bpf_get_stackid(); you may read and delete them.",
                number,
            )
        if number == errno.ENOENT:
            raise MissingKey(
                f"{name} has no key {key!r} {why}.\n"
                "Look with .get(key), list the keys with list(map), or see it all in .frame().",
                number,
            )
        if number == errno.EEXIST:
            raise KeyExists(
                f"{name} has the key {key!r} already {why}.\n"
                'Use flags="any" to replace it, or "exist" to replace only what is there.',
                number,
            )
        if number == errno.E2BIG:
            raise MapFull(
                f"{name} holds {len(self)} of {self.max_entries} entries, and this key is new.\n"
                f"A {self.type} map refuses new keys when it is full {why}.\n"
                f"Delete entries, raise max_entries{self._in_place()}, or use an LRU hash, which "
                "evicts instead: see chapter 05.",
                number,
            )
        shown = "" if key is None else f" {key!r} in"
        check_exhausted(f"{what}{shown} {name}", number)
        raise BpfError(f"The kernel would not {what}{shown} {name} {why}.", number)

    def _check_socket(self, number: int, what: str, key: Any, raw_value: bytes) -> None:
        """Say why a map of sockets refused, in terms of sockets."""
        why, name = f"(errno {describe(number)})", self.name
        if number in (errno.EOPNOTSUPP, errno.ENOTSOCK, errno.EBADF) and what == "update":
            kind = _socket_kind(int.from_bytes(raw_value, sys.byteorder))
            raise LayoutError(
                f"{name} does not take {kind} {why}.\n"
                "A TCP socket must be connected or listening, with neither side closed; a UDP "
                "socket bound; a Unix socket connected.",
                number,
            )
        if number == errno.EBUSY:
            raise BpfError(
                f"{name} has a program for its sockets, and so has another map that this socket "
                f"is in {why}.\nOne program judges a socket: delete it from the other map first.",
                number,
            )
        if number == errno.ENOSPC:
            raise Unsupported(
                "8 bytes for the cookie, all that user space may read of a socket",
                f"{name}, with values of {self.value.size} bytes {why}",
                "Declare the value as __u64. BCC's macros fix 4 bytes: keep a dict beside the map.",
            )
        if number == errno.E2BIG and self.type == "sockmap":
            raise MissingKey(
                f"{name} has no number {key!r}: it has the numbers 0 to {self.max_entries - 1} "
                f"{why}.\nRaise max_entries{self._in_place()}.",
                number,
            )
        if number == errno.E2BIG:
            raise MapFull(
                f"{name} holds {self.max_entries} sockets already, and this key is new {why}.\n"
                f"Delete one, close one, or raise max_entries{self._in_place()}.",
                number,
            )
        if number == errno.EINVAL and what == "delete":
            raise MissingKey(f"{name} has no socket under the number {key!r} {why}.", number)

    def _check_program(self, raw_value: bytes, why: str, number: int) -> None:
        """Is what a program array refused no program, or one of another type? Then say so."""
        fd, info = int.from_bytes(raw_value, sys.byteorder), ProgInfo()
        size = ctypes.c_uint32(ctypes.sizeof(info))
        # A map has an info too: what a descriptor is, only its name in /proc tells.
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{fd}") == "anon_inode:bpf-prog":
                lib().bpf_obj_get_info_by_fd(fd, ctypes.byref(info), ctypes.byref(size))
        if not info.id:
            raise LayoutError(
                f"The value of {self.name} is not the file descriptor of a program {why}.\n"
                "Give it a loaded one, as in  prog.function(name)",
                number,
            )
        told = Path(f"/proc/self/fdinfo/{self._fd}").read_text()
        owner = re.search(r"owner_prog_type:\t(\d+)", told)  # that of the first program to use it
        if owner and int(owner[1]) != info.type:
            spell, name = lib().libbpf_bpf_prog_type_str, info.name.decode(errors="replace")
            wanted, found = ((spell(n) or b"%d" % n).decode() for n in (int(owner[1]), info.type))
            raise LayoutError(
                f"{self.name} takes programs of the type {wanted}, and {name} is of the type "
                f"{found} {why}.\nA tail call hands its context on, so all programs of an array "
                f"are of one type: give {found} programs an array of their own.",
                number,
            )

    def _in_place(self) -> str:
        return f" in {place}" if (place := self._place()) else ""


class _Items(ItemsView[Any, Any]):
    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        source: BpfMap = self._mapping  # type: ignore[attr-defined]
        keys, values, _ = source._read()
        decode, key = source._decode, source.key
        return (
            (key.decode(k.tobytes()), decode(v.tobytes()))
            for k, v in zip(keys, values, strict=True)
        )


def _socket_kind(fd: int) -> str:
    """What this file descriptor is, for a map that takes some sockets only."""
    try:
        is_socket = stat.S_ISSOCK(os.fstat(fd).st_mode)
    except (OSError, OverflowError):
        is_socket = False
    if not is_socket:
        return f"file descriptor {fd}, which is no open socket"
    with socket.socket(fileno=os.dup(fd)) as one:
        if one.family in (socket.AF_INET, socket.AF_INET6) and one.type == socket.SOCK_STREAM:
            state = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
            return f"a TCP socket in the state {_TCP_STATES[state]}"
        if one.family in (socket.AF_INET, socket.AF_INET6) and one.type == socket.SOCK_DGRAM:
            return "a UDP socket that has no port yet"
        return f"this {one.family.name} {one.type.name} socket"


def _column(name: str, side: str, shared: set[str]) -> str:
    if not name:
        return side
    return f"{side}.{name}" if name in shared else name


@functools.lru_cache(256)
def _layouts(
    types: bytes | None, key_type: int, value_type: int, key_size: int, value_size: int
) -> tuple[Layout, Layout]:
    """Key and value layouts from the map's BTF; plain integers or bytes where it has none.

    A program that is loaded again brings the same types again.
    """
    key, value = plain(key_size), plain(value_size)
    if types is None:
        return key, value
    if key_type:
        key = _fits(Types(types).layout(key_type, key=True), key_size)
    if value_type:
        value = _fits(Types(types).layout(value_type), value_size)
    return key, value


def _fits(layout: Layout, size: int) -> Layout:
    # A type that does not fill the map's bytes would show fields that are not there.
    return layout if layout.size == size else plain(size)


@exhaustion_told("open the map")
def open_map(
    *,
    pin: str | os.PathLike[str] | None = None,
    id: int | None = None,
    name: str | None = None,
    fd: int | None = None,
) -> BpfMap:
    """Open a map that anyone made: by one of its pin, id, name or file descriptor.

    A file descriptor is duplicated, and stays yours.

    Raises:
        NotFound: there is no such map, or more than one of that name.
        PermissionNeeded: the kernel does not let you.
    """
    if [pin, id, name, fd].count(None) != 3:
        raise LayoutError("open_map() takes one of pin, id, name or fd.")
    if name is not None:
        found = [i for i, n in kernel.objects("map").items() if n == name[:15]]
        if len(found) != 1:
            said = f"the ids {', '.join(map(str, found))}: open one by id" if found else "no map"
            raise NotFound(f"The name {name!r} has {said}.", errno.ENOENT)
        id = found[0]
    if fd is not None:
        try:
            return _checked(os.dup(fd), f"File descriptor {fd}")
        except OSError as error:
            if isinstance(error, BpfError):
                raise
            check_exhausted(f"open file descriptor {fd} again", error.errno or 0)
            raise Closed(f"File descriptor {fd} is not open.") from None
        except OverflowError:
            raise Closed(f"File descriptor {fd} is not open: no number is so large.") from None
    if id is not None:
        if not isinstance(id, int) or not 0 <= id < 1 << 32:
            raise NotFound(f"{id!r} is no id of a map.\nList the maps with: bpftool map")
        return _checked(lib().bpf_map_get_fd_by_id(id), f"Map id {id}")
    path = _path(pin or "")
    found_fd = lib().bpf_obj_get(path)
    if found_fd == -errno.EACCES and os.access(path, os.R_OK):
        raise NotFound(f"{pin} is no pin.\nPins live in a BPF file system: {kernel.BPFFS}.")
    return _checked(found_fd, f"The pin {pin}")


def _path(path: str | os.PathLike[str]) -> bytes:
    """A path as the kernel reads it, which is up to its first NUL."""
    try:
        raw = os.fsencode(path)
    except UnicodeEncodeError:
        raw = b"\0"
    if b"\0" in raw:
        raise NotFound(
            f"{str(path)!r} is no path: no file has a NUL in its name, or half of a character.",
            errno.EINVAL,
        )
    return raw


def _checked(fd: int, what: str) -> BpfMap:
    if fd in (-errno.EPERM, -errno.EACCES):
        raise PermissionNeeded(f"open {what[0].lower()}{what[1:]}")
    check_exhausted(f"open {what[0].lower()}{what[1:]}", -fd)
    if fd < 0:
        raise NotFound(
            f"{what} is not there (errno {describe(-fd)}).\nList the maps with: bpftool map", -fd
        )
    if os.readlink(f"/proc/self/fd/{fd}") != "anon_inode:bpf-map":
        os.close(fd)
        raise NotFound(f"{what} is something else than a map.", errno.EINVAL)
    return BpfMap(fd)
