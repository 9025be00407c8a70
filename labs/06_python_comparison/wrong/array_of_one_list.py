# expect: How many lists of zeros
import errno

ANY, NOEXIST, EXIST = 0, 1, 2
U32 = 0xFFFF_FFFF


def fail(number):
    raise OSError(number, "as the kernel says")


def cut(value):
    return [number & U32 for number in value]


class HashMap:
    differences = ("order",)

    def __init__(self, max_entries):
        self.max_entries = max_entries
        self.table = {}

    def lookup(self, key):
        if key & U32 not in self.table:
            fail(errno.ENOENT)
        return list(self.table[key & U32])

    def update(self, key, value, flags=ANY):
        there = key & U32 in self.table
        if flags > EXIST:
            fail(errno.EINVAL)
        if flags == NOEXIST and there:
            fail(errno.EEXIST)
        if flags == EXIST and not there:
            fail(errno.ENOENT)
        if not there and len(self.table) == self.max_entries:
            fail(errno.E2BIG)
        self.table[key & U32] = cut(value)

    def delete(self, key):
        if key & U32 not in self.table:
            fail(errno.ENOENT)
        del self.table[key & U32]

    def next_key(self, key=None):
        keys = list(self.table)
        if key is None or key & U32 not in keys:
            return keys[0] if keys else None
        following = keys.index(key & U32) + 1
        return keys[following] if following < len(keys) else None


class ArrayMap:
    differences = ()

    def __init__(self, max_entries):
        self.elements = [[0, 0]] * max_entries

    def lookup(self, key):
        if key & U32 >= len(self.elements):
            fail(errno.ENOENT)
        return list(self.elements[key & U32])

    def update(self, key, value, flags=ANY):
        if flags > EXIST:
            fail(errno.EINVAL)
        if key & U32 >= len(self.elements):
            fail(errno.E2BIG)
        if flags == NOEXIST:
            fail(errno.EEXIST)
        self.elements[key & U32][:] = cut(value)

    def delete(self, key):
        fail(errno.EINVAL)

    def next_key(self, key=None):
        last = len(self.elements) - 1
        if key is None or key & U32 > last:
            return 0
        return (key & U32) + 1 if key & U32 < last else None
