def predict():
    """15 keys are written to a new map of 10. How many does it hold in the end?"""


def insert(recent, keys):
    """Write the keys, one after the other, with the count 0."""


def evicted(recent, keys):
    """Those of the keys that are not in the map, in their order."""


def keep(recent, key):
    """If the key is there, see to it that it stays, with its count."""


def forgets(inserted, used):
    """Those of inserted that the map will forget, the first to go first."""
