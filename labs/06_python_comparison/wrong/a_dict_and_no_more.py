# expect: has no `delete`
import errno


class HashMap(dict):
    differences = ("order",)

    def __init__(self, max_entries):
        self.max_entries = max_entries

    def lookup(self, key):
        if key not in self:
            raise OSError(errno.ENOENT, "no such key")
        return self[key]

    def update(self, key, value, flags=0):
        self[key] = value
