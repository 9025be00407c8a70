import errno

ANY, NOEXIST, EXIST = 0, 1, 2  # the flags of an update


class HashMap:
    differences = ()

    def __init__(self, max_entries):
        self.max_entries, self.table = max_entries, {}

    def lookup(self, key):
        if key not in self.table:
            raise OSError(errno.ENOENT, "no such key")
        return self.table[key]

    # Here: update(), delete(), next_key(). Then ArrayMap, LruMap, QueueMap.
