import ctypes
import os

from helpers import load
from helpers.maps import BpfMap
from helpers.program import Program

libbpf = ctypes.CDLL("libbpf.so.1")


def begin(c_file: str, pin: str) -> Program:
    prog = load(c_file)
    if libbpf.bpf_obj_pin(prog["ports"].fd, pin.encode()):
        raise FileExistsError(pin)
    return prog


def resume(c_file: str, pin: str) -> Program:
    fd = libbpf.bpf_obj_get(pin.encode())
    with BpfMap(fd) as ports:  # refuses a negative number, which says that nothing is there
        return load(c_file, maps={"ports": ports})


def finish(pin: str) -> None:
    os.unlink(pin)  # a pin is removed as a file is
