# solution: dataclasses that keep bytes, as the kernel does: whatever ctypes packs is cut and copied
import errno
import os
import struct
from collections import OrderedDict, deque
from ctypes import c_uint32
from dataclasses import dataclass, field
from typing import ClassVar

FLAGS = ANY, NOEXIST, EXIST = range(3)
Stats = c_uint32 * 2  # struct { __u32 packets, bytes; }


def refuse_if(holds, number):
    if holds:
        raise OSError(number, os.strerror(number))


def packed(key):
    return struct.pack(">I", c_uint32(key).value)  # big end first: bytes that sort as numbers


def unpacked(key):
    return int.from_bytes(key, "big")


@dataclass
class HashMap:
    max_entries: int
    table: OrderedDict = field(default_factory=OrderedDict)
    differences: ClassVar = {"order"}

    def lookup(self, key):
        refuse_if(packed(key) not in self.table, errno.ENOENT)
        return list(Stats.from_buffer_copy(self.table[packed(key)]))

    def update(self, key, value, flags=ANY):
        there = packed(key) in self.table
        refuse_if(flags not in FLAGS, errno.EINVAL)
        refuse_if(there and flags == NOEXIST, errno.EEXIST)
        refuse_if(not there and flags == EXIST, errno.ENOENT)
        if not there:
            self.need_room()
        self.table[packed(key)] = bytes(Stats(*value))

    def need_room(self):
        refuse_if(len(self.table) >= self.max_entries, errno.E2BIG)

    def delete(self, key):
        refuse_if(packed(key) not in self.table, errno.ENOENT)
        self.table.pop(packed(key))

    def next_key(self, key=None):
        keys = sorted(self.table)
        if key is not None and packed(key) in keys:
            keys = keys[keys.index(packed(key)) + 1 :]
        return unpacked(keys[0]) if keys else None


@dataclass
class LruMap(HashMap):
    differences: ClassVar = {"order", "victims"}

    def lookup(self, key):
        value = super().lookup(key)
        self.table.move_to_end(packed(key))
        return value

    def update(self, key, value, flags=ANY):
        super().update(key, value, flags)
        self.table.move_to_end(packed(key))

    def need_room(self):
        if len(self.table) == self.max_entries:
            self.table.popitem(last=False)


class ArrayMap:
    differences = frozenset()

    def __init__(self, max_entries):
        self.memory = (Stats * max_entries)()  # one block of memory, and all of it zeros

    def lookup(self, key):
        refuse_if(c_uint32(key).value >= len(self.memory), errno.ENOENT)
        return list(self.memory[c_uint32(key).value])

    def update(self, key, value, flags=ANY):
        refuse_if(flags not in FLAGS, errno.EINVAL)
        refuse_if(c_uint32(key).value >= len(self.memory), errno.E2BIG)
        refuse_if(flags == NOEXIST, errno.EEXIST)
        self.memory[c_uint32(key).value] = Stats(*value)

    def delete(self, key):
        refuse_if(True, errno.EINVAL)

    def next_key(self, key=None):
        following = 0 if key is None else c_uint32(key).value + 1
        if following > len(self.memory):
            return 0
        return following if following < len(self.memory) else None


@dataclass
class QueueMap:
    max_entries: int
    waiting: deque = field(default_factory=deque)
    differences: ClassVar = set()

    def push(self, value, flags=ANY):
        refuse_if(flags not in (ANY, EXIST), errno.EINVAL)
        full = len(self.waiting) == self.max_entries
        refuse_if(full and flags == ANY, errno.E2BIG)
        if full:
            self.waiting.popleft()
        self.waiting.append(bytes(Stats(*value)))

    def peek(self):
        refuse_if(not self.waiting, errno.ENOENT)
        return list(Stats.from_buffer_copy(self.waiting[0]))

    def pop(self):
        value = self.peek()
        self.waiting.popleft()
        return value
