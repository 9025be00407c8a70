# expect: still at work


def predict():
    return 10


def insert(recent, keys):
    while len(recent) < len(keys):  # all of them should be there
        recent.update((key, 0) for key in keys)


def evicted(recent, keys):
    return [key for key in keys if key not in recent]


def keep(recent, key):
    if key in recent:
        recent[key] = recent[key]  # a write to a key that is there sets its bit


def forgets(inserted, used):
    return [key for key in inserted if key not in used]
