# expect: nothing but a bit


def predict():
    return 10


def insert(recent, keys):
    for key in keys:
        recent[key] = 0


def evicted(recent, keys):
    return [key for key in keys if key not in recent]


def keep(recent, key):
    if key in recent:
        recent[key] = 0


def forgets(inserted, used):
    return [key for key in inserted if key not in used]
