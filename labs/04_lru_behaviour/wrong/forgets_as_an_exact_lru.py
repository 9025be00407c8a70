# expect: An exact LRU would have forgotten it


def predict():
    return 10


def insert(recent, keys):
    for key in keys:
        recent[key] = 0


def evicted(recent, keys):
    return [key for key in keys if key not in recent]


def keep(recent, key):
    if key in recent:
        recent[key] = recent[key]  # a write to a key that is there sets its bit


def forgets(inserted, used):
    order = dict.fromkeys(inserted)
    for key in used:
        del order[key]
        order[key] = None
    return list(order)
