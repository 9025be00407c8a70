"""What every test and every notebook relies on: root, a work folder of its own, a clean kernel.

A plugin rather than a conftest.py, so that it serves the notebooks and labs too.
"""

import atexit
import contextlib
import gc
import os
import platform
import re
import shutil
import tempfile
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis.configuration import set_hypothesis_home_dir

from helpers import kernel, open_map
from helpers.errors import NotFound
from helpers.kernel import objects
from helpers.vm import fetch, kernelspec
from helpers.vm.everywhere import ask

# What a learner wrote must not change what the notebooks of a test show.
os.environ["BPF_COURSE_WORK"] = os.path.join(tempfile.mkdtemp(prefix="course-"), "work")
atexit.register(shutil.rmtree, os.path.dirname(os.environ["BPF_COURSE_WORK"]))

set_hypothesis_home_dir(kernel.cache_dir("hypothesis"))  # not into the checkout


GUESTS = "tests/vm/"  # the folder whose tests have a lane of their own

MARK = f"BPF_COURSE_TESTS={uuid.uuid4()}"  # in the environment of every process that we start
os.environ.update([MARK.split("=")])

# Before the command of a server: it ends with the run that started it, killed or not.
WITH_US = ["setpriv", "--pdeathsig", "TERM"]


def _ours(pid: str) -> bool:
    """Is it this process, or one that it started, directly or not?"""
    if pid == str(os.getpid()):
        return True
    try:
        return MARK.encode() in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:  # it ended meanwhile
        return False


def _holders() -> dict[str, set[str]]:
    """The processes that hold each BPF object, such as "map 7", and each network namespace."""
    held = defaultdict[str, set[str]](set)
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            held[os.readlink(process / "ns/net")].add(process.name)
            for info in (process / "fdinfo").iterdir():
                with contextlib.suppress(OSError):
                    for kind, number in re.findall(r"(map|prog|link)_id:\t(\d+)", info.read_text()):
                        held[f"{kind} {number}"].add(process.name)
    return held


def stuck(what: str) -> bool:
    """Is this object, which no process holds, one that the kernel itself does not let go of?

    Linux 6.18 keeps a program array for ever when somebody opens it by its id, as we do here, in
    the moment in which its last descriptor was closed: some 800 of 5,770 beside somebody who did
    nothing else. No test asserts it, since nothing but a restart would take them away. Whatever
    else may hold one, a process, a pin or a program, is seen by itself.
    """
    kind, _, number = what.partition(" ")
    if kind != "map":
        return False
    try:
        with open_map(id=int(number)) as one:
            return one.type == "prog_array"
    except NotFound:  # it went away meanwhile
        return False


def _left() -> dict[str, str]:
    """All that is in this kernel now and that a test might have left there, with its name.

    Not what other people's processes hold: the machine may be shared.
    """
    found = {f"{kind} {i}": name for kind in ("map", "prog") for i, name in objects(kind).items()}
    found |= {f"link {i}": "" for i in kernel.ids("link")}
    held = _holders()
    found |= {space: "" for space in held if space.startswith("net:")}
    found = {
        what: name
        for what, name in found.items()
        if (any(map(_ours, held[what])) if what in held else not stuck(what))
    }
    files = [*kernel.BPFFS.rglob("*"), *Path("/run/netns").glob("*")]
    return found | {str(path): "" for path in files}


def still_there(
    before: dict[str, str], look: Callable[[], dict[str, str]] = _left
) -> dict[str, str]:
    """What was not there before, once the kernel had five seconds to free what nobody holds."""
    deadline = time.monotonic() + 5
    while extra := {what: name for what, name in look().items() if what not in before}:
        gc.collect()
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    return extra


def _held() -> dict[str, str]:
    """What our own processes hold, told without opening any of it: stuck() says why."""
    return {what: "" for what, by in _holders().items() if any(map(_ours, by))}


def _guest(config: pytest.Config) -> bool:
    """Do the notebooks run in guests?"""
    return str(getattr(config.option, "nbval_kernel_name", None) or "").startswith("linux-")


def _lane(config: pytest.Config) -> bool:
    """Does this run exist to run what is skipped elsewhere?"""
    return _guest(config) or "BPF_COURSE_LANE" in os.environ


def pytest_configure(config: pytest.Config) -> None:
    if _guest(config):
        kernelspec.offer()
        config.option.nbval_current_env = False
        config.option.nbval_kernel_startup_timeout = 180
        config.option.nbval_cell_timeout = 600  # emulated


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and _lane(item.config) and EXCUSED not in item.stash:
        report.outcome = "failed"
        report.longrepr = f"skipped in the run that is there for it: {report.longrepr}"
    return report


def pytest_sessionstart(session: pytest.Session) -> None:
    if os.geteuid() and not _guest(session.config):
        pytest.exit("The tests load programs into the kernel: run them with ./course test", 2)
    session.stash[BEFORE] = _left()


def pytest_collection_modifyitems(session: pytest.Session, items: list[pytest.Item]) -> None:
    """Skip the cells that need what this kernel lacks, and end with a look at what is left."""
    cells = [item for item in items if getattr(item, "cell", None)]
    release, missing = _missing(session.config) if cells else ("", set[str]())
    for item in cells:
        for name in sorted(_needed(item) & missing):
            feature, why = kernel.FEATURES[name], f"./course test --kernel 6.1 {item.path.name}"
            if _lane(item.config):
                if feature.since and not _older(release, feature.since):
                    continue  # it should be here: the cell runs, and fails
                item.stash[EXCUSED] = True
                why = f"Linux {feature.since} brings it" if feature.since else "it is emulated"
            item.add_marker(pytest.mark.skip(reason=f"needs {feature.words}: {why}"))
    looks = {"tests/plugin.py::nothing_is_left_in_the_kernel": _left} if items else {}
    if hasattr(session.config, "workerinput"):  # this lane may look while the other goes on
        looks[f"{GUESTS}plugin.py::nothing_is_held_by_this_lane"] = _held
    for node, look in looks.items():
        name = node.split("::")[1]
        items.append(NothingLeft.from_parent(session, name=name, nodeid=node, look=look))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """Two lanes: tests of guests leave this kernel alone, and run beside all others."""
    from xdist.scheduler import LoadScopeScheduling

    if config.option.dist != "loadscope":
        return None

    class Lanes(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "guests" if nodeid.startswith(GUESTS) else "this kernel"

    return Lanes(config, log)


class NothingLeft(pytest.Item):
    """The last test of a lane: no program, map, link, pin or namespace of it is still there."""

    def __init__(self, *, look: Callable[[], dict[str, str]], **rest: Any) -> None:
        super().__init__(**rest)
        self.look = look

    def runtest(self) -> None:
        if extra := still_there(self.session.stash[BEFORE], self.look):
            found = "\n".join(f"  {what} {name}" for what, name in extra.items())
            pytest.fail(f"The tests left this in the kernel:\n{found}", pytrace=False)

    def reportinfo(self) -> tuple[Path, int, str]:
        return Path(__file__), 0, self.name


def _needed(cell: pytest.Item) -> set[str]:
    """What the cell's tags and its notebook's metadata say that it needs."""
    tags = cell.cell.metadata.get("tags", [])  # type: ignore[attr-defined]
    whole = cell.parent.nb.metadata.get("course", {}).get("needs", [])  # type: ignore[union-attr]
    return {*whole, *(tag.removeprefix("needs-") for tag in tags if tag.startswith("needs-"))}


def _missing(config: pytest.Config) -> tuple[str, set[str]]:
    """The release of the kernel that the notebooks run on, and which features it lacks."""
    if not _guest(config):
        return platform.release(), set(kernel.missing())
    of = fetch.get(config.option.nbval_kernel_name.removeprefix(kernelspec.PREFIX))
    told = ask(of, kernel.missing)
    return told["release"], set(told["missing"])


def _older(release: str, than: str) -> bool:
    here, there = ([int(n) for n in re.findall(r"\d+", text)[:2]] for text in (release, than))
    return here < there


BEFORE = pytest.StashKey[dict[str, str]]()
EXCUSED = pytest.StashKey[bool]()  # on an item that is skipped for a kernel that cannot do better
