# SPDX-License-Identifier: MIT OR GPL-2.0-only
from contextlib import suppress


def predict():
    return 9


def insert(recent, keys):
    recent.update((key, 0) for key in keys)  # in bulk, in this order


def evicted(recent, keys):
    held = set(recent)
    return list(filter(lambda key: key not in held, keys))


def keep(recent, key):
    with suppress(KeyError):  # it is not there, or was evicted a moment ago
        recent.update_elem(key, recent[key], flags="exist")


def forgets(inserted, used):
    going = dict.fromkeys(inserted)  # a dict keeps the order
    for key in used:
        going.pop(key, None)
    return list(going)
