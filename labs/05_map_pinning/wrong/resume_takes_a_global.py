# expect: raised KeyError
from helpers import load, open_map
from helpers.program import Program

kept = {}


def begin(c_file: str, pin: str) -> Program:
    prog = load(c_file)
    prog["ports"].pin(pin)
    kept["ports"] = prog["ports"]
    return prog


def resume(c_file: str, pin: str) -> Program:
    return load(c_file, maps={"ports": kept["ports"]})


def finish(pin: str) -> None:
    with open_map(pin=pin) as ports:
        ports.unpin(pin)
