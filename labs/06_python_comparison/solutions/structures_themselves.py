# solution: classes that are a dict, a list, an OrderedDict and a deque, with calls added
import errno
from collections import OrderedDict, deque
from operator import index

ANY, NOEXIST, EXIST = 0, 1, 2


def u32(number):
    return index(number) & 0xFFFF_FFFF


def stats(value):
    packets, length = value
    return u32(packets), u32(length)


def check(flags, there):
    """What an update may be refused for, wherever the entry would go."""
    if not ANY <= flags <= EXIST:
        raise OSError(errno.EINVAL, "no such flags")
    if there and flags == NOEXIST:
        raise OSError(errno.EEXIST, "the key is there")
    if not there and flags == EXIST:
        raise OSError(errno.ENOENT, "the key is not there")


class Calls:
    """What a dict and an OrderedDict need to answer as maps."""

    differences = ("order",)

    def __init__(self, max_entries):
        super().__init__()
        self.max_entries = max_entries

    def lookup(self, key):
        try:
            return self[u32(key)]
        except KeyError:
            raise OSError(errno.ENOENT, "the key is not there") from None

    def update(self, key, value, flags=ANY):
        check(flags, u32(key) in self)
        self[u32(key)] = stats(value)

    def delete(self, key):
        self.lookup(key)
        del self[u32(key)]

    def next_key(self, key=None):
        after = u32(key) if key is not None and u32(key) in self else -1
        return min((one for one in self if one > after), default=None)


class HashMap(Calls, dict):
    def __setitem__(self, key, value):
        if key not in self and len(self) == self.max_entries:
            raise OSError(errno.E2BIG, "the map is full")
        super().__setitem__(key, value)


class LruMap(Calls, OrderedDict):
    differences = ("order", "victims")

    def __getitem__(self, key):
        value = super().__getitem__(key)
        self.move_to_end(key)
        return value

    def __setitem__(self, key, value):
        super().__setitem__(key, value)
        self.move_to_end(key)
        if len(self) > self.max_entries:
            del self[next(iter(self))]


class ArrayMap(list):
    differences = ()

    def __init__(self, max_entries):
        super().__init__([(0, 0)] * max_entries)  # tuples: all may be the same one

    def lookup(self, key):
        if u32(key) >= len(self):
            raise OSError(errno.ENOENT, "no such index")
        return self[u32(key)]

    def update(self, key, value, flags=ANY):
        there = u32(key) < len(self)
        if ANY <= flags <= EXIST and not there:
            raise OSError(errno.E2BIG, "no such index")
        check(flags, there)
        self[u32(key)] = stats(value)

    def delete(self, key):
        raise OSError(errno.EINVAL, "elements of an array stay")

    def next_key(self, key=None):
        if key is None or u32(key) >= len(self):
            return 0
        return None if u32(key) == len(self) - 1 else u32(key) + 1


class QueueMap(deque):
    differences = ()

    def __init__(self, max_entries):
        super().__init__(maxlen=max_entries)

    def push(self, value, flags=ANY):
        if flags not in (ANY, EXIST):
            raise OSError(errno.EINVAL, "no such flags for a queue")
        if len(self) == self.maxlen and flags == ANY:
            raise OSError(errno.E2BIG, "the queue is full")
        self.append(stats(value))  # with EXIST, maxlen makes the oldest go

    def pop(self):
        value = self.peek()
        self.popleft()
        return value

    def peek(self):
        if not self:
            raise OSError(errno.ENOENT, "the queue is empty")
        return self[0]
