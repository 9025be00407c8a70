# expect: what is pinned at the path is no map
import os

from helpers import load, open_map
from helpers.libbpf import lib
from helpers.program import Program


def begin(c_file: str, pin: str) -> Program:
    prog = load(c_file)
    function = prog.function(prog.programs[0])
    lib().bpf_obj_pin(function.fd, os.fsencode(pin))
    return prog


def resume(c_file: str, pin: str) -> Program:
    with open_map(pin=pin) as ports:
        return load(c_file, maps={"ports": ports})


def finish(pin: str) -> None:
    with open_map(pin=pin) as ports:
        ports.unpin(pin)
