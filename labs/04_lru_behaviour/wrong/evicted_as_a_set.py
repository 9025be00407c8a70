# expect: a set, which has no order


def predict():
    return 10


def insert(recent, keys):
    for key in keys:
        recent[key] = 0


def evicted(recent, keys):
    return set(keys) - set(recent)


def keep(recent, key):
    if key in recent:
        recent[key] = recent[key]  # a write to a key that is there sets its bit


def forgets(inserted, used):
    return [key for key in inserted if key not in used]
