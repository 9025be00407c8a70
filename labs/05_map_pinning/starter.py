from helpers import load


def begin(c_file, pin):
    return load(c_file)  # and pin its map ports


def resume(c_file, pin):
    return load(c_file)  # with the map that is pinned there


def finish(pin):
    pass  # remove the pin
