# expect: should be read afterwards
import errno


class HashMap:
    differences = ("order",)

    def __init__(self, max_entries):
        self.seen = set()

    def lookup(self, key):
        if key not in self.seen:
            raise OSError(errno.ENOENT, "no such key")
        return [1, 60]

    def update(self, key, value, flags=0):
        self.seen.add(key)

    def delete(self, key):
        if key not in self.seen:
            raise OSError(errno.ENOENT, "no such key")

    def next_key(self, key=None):
        return None
