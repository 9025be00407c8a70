# solution: one base class that knows all reasons to refuse, and what each class does differently
import errno

ANY, NOEXIST, EXIST = 0, 1, 2


class Refused(OSError):
    def __init__(self, name):
        super().__init__(getattr(errno, name), name)


class Base:
    """A map of numbers of 32 bits. Who derives from it says what it holds, and when it is full."""

    differences = ()

    def __init__(self, max_entries):
        self.max_entries = max_entries
        self.table = {}

    def lookup(self, key):
        key %= 2**32
        if key not in self.table:
            raise Refused("ENOENT")
        self.used(key)
        return [*self.table[key]]

    def update(self, key, value, flags=ANY):
        key %= 2**32
        if flags not in (ANY, NOEXIST, EXIST):
            raise Refused("EINVAL")
        if key in self.table and flags == NOEXIST:
            raise Refused("EEXIST")
        if key not in self.table:
            if flags == EXIST:
                raise Refused("ENOENT")
            if len(self.table) == self.max_entries:
                self.make_room()
        # A tuple cannot be changed, whoever holds on to it.
        self.table[key] = tuple(number % 2**32 for number in value)
        self.used(key)

    def delete(self, key):
        if self.table.pop(key % 2**32, None) is None:
            raise Refused("ENOENT")

    def next_key(self, key=None):
        keys = sorted(self.table)
        following = dict(zip(keys, [*keys[1:], None], strict=False))
        return following.get(None if key is None else key % 2**32, keys[0] if keys else None)

    def used(self, key):
        pass

    def make_room(self):
        raise Refused("E2BIG")


class HashMap(Base):
    differences = ("order",)


class LruMap(Base):
    differences = ("order", "victims")

    def used(self, key):
        self.table[key] = self.table.pop(key)  # a dict keeps what came in last at its end

    def make_room(self):
        del self.table[next(iter(self.table))]


class ArrayMap(Base):
    def __init__(self, max_entries):
        super().__init__(max_entries)
        self.table = dict.fromkeys(range(max_entries), (0, 0))

    def update(self, key, value, flags=ANY):
        if flags in (ANY, NOEXIST, EXIST) and key % 2**32 not in self.table:
            raise Refused("E2BIG")
        super().update(key, value, flags)

    def delete(self, key):
        raise Refused("EINVAL")


class QueueMap:
    differences = ()

    def __init__(self, max_entries):
        self.max_entries = max_entries
        self.values = []

    def push(self, value, flags=ANY):
        if flags not in (ANY, EXIST):
            raise Refused("EINVAL")
        if len(self.values) == self.max_entries:
            if flags != EXIST:
                raise Refused("E2BIG")
            del self.values[0]
        self.values.append(tuple(number % 2**32 for number in value))

    def pop(self):
        value = self.peek()
        del self.values[0]
        return value

    def peek(self):
        if not self.values:
            raise Refused("ENOENT")
        return self.values[0]
