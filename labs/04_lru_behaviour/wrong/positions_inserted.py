# expect: was not among the keys


def predict():
    return 10


def insert(recent, keys):
    for number, key in enumerate(keys):
        recent[number] = 0


def evicted(recent, keys):
    return [key for key in keys if key not in recent]


def keep(recent, key):
    if key in recent:
        recent[key] = recent[key]  # a write to a key that is there sets its bit


def forgets(inserted, used):
    return [key for key in inserted if key not in used]
