# expect: your program is still in the kernel, pinned
import os

from helpers import load, open_map
from helpers.libbpf import lib
from helpers.program import Program


def begin(c_file: str, pin: str) -> Program:
    prog = load(c_file)
    prog["ports"].pin(pin)
    function = prog.function(prog.programs[0])
    lib().bpf_obj_pin(function.fd, os.fsencode(f"{pin}_program"))
    return prog


def resume(c_file: str, pin: str) -> Program:
    with open_map(pin=pin) as ports:
        return load(c_file, maps={"ports": ports})


def finish(pin: str) -> None:
    with open_map(pin=pin) as ports:
        ports.unpin(pin)
