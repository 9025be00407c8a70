# expect: now another map is pinned at the path
import os

from helpers import load, open_map
from helpers.program import Program


def begin(c_file: str, pin: str) -> Program:
    prog = load(c_file)
    prog["ports"].pin(pin)
    return prog


def resume(c_file: str, pin: str) -> Program:
    with open_map(pin=pin) as ports:
        old = dict(ports.items())
    os.unlink(pin)
    prog = begin(c_file, pin)
    prog["ports"].update(old)
    return prog


def finish(pin: str) -> None:
    with open_map(pin=pin) as ports:
        ports.unpin(pin)
