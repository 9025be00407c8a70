"""Guests that begin with a saved machine: as fresh as one that has booted."""

import errno
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helpers import kernel
from helpers.errors import BpfError
from helpers.vm import commands, fetch, machine, state
from helpers.vm.boot import INSIDE, Guest
from helpers.vm.fetch import Kernel
from tests.vm.conftest import copied, qemus, until

pytestmark = pytest.mark.timeout(400)


def asked(of: Kernel, code: str) -> Any:
    """What a module of that code prints as JSON, run as kernels are: in the process that woke."""
    command = [sys.executable, "-m", "asked"]
    with Guest(of, command, files={"asked.py": code}, cwd=INSIDE) as guest:
        status, said = guest.wait(120), (guest.folder / "out").read_text()
        assert status == 0, said
        return json.loads(said)


def test_it_knows_the_time(linux: Kernel) -> None:
    there = asked(linux, "import time; print(time.time())")
    assert abs(there - time.time()) < 5


def test_no_two_draw_the_same_random_numbers(linux: Kernel) -> None:
    code = """
import json, os, random, sys, tempfile, uuid
assert "pandas" in sys.modules, "it woke with what it had imported"
import numpy as np
drawn = [os.urandom(8).hex(), uuid.uuid4().hex, random.random(), np.random.random()]
with tempfile.NamedTemporaryFile() as file:
    print(json.dumps([*drawn, file.name]))
"""
    one, two = asked(linux, code), asked(linux, code)
    assert all(a != b for a, b in zip(one, two, strict=True)), (one, two)


def test_it_keeps_exit_codes_and_environment_of_a_module(linux: Kernel) -> None:
    code = "import os, sys; print(os.environ['WORD'], sys.argv[1:], __name__); raise SystemExit(3)"
    command = [sys.executable, "-m", "asked", "a b", "c"]
    files = {"asked.py": code}
    with Guest(linux, command, files=files, cwd=INSIDE, env={"WORD": "'told'"}) as guest:
        assert guest.wait(120) == 3
        assert (guest.folder / "out").read_text() == "'told' ['a b', 'c'] __main__\n"


def test_two_kernels_are_saved_at_a_time(linux: Kernel, tmp_path: Path) -> None:
    """By one process, as chapter 14 does."""
    kernels = [replace(copied(linux, tmp_path / name), name=name) for name in ("one", "two")]
    with ThreadPoolExecutor(2) as pool:
        assert [*pool.map(lambda of: asked(of, "print(1)"), kernels)] == [1, 1]
    assert [len([*of.folder.glob("state-*")]) for of in kernels] == [1, 1]


def test_where_no_state_can_be_saved_guests_boot_and_a_list_says_why(
    unsaved: Kernel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(state, "SECONDS", 0.5)
    code = "import os, sys; print(int('pandas' in sys.modules))"
    assert asked(unsaved, code) == 0
    assert not [path for path in unsaved.folder.glob("state-*") if path.suffix != ".failed"]
    monkeypatch.setattr(fetch, "present", lambda name: unsaved if name == "6.1" else None)
    commands.show()
    assert "It boots each time, as its state could not be saved" in capsys.readouterr().out


def test_a_disk_without_room_for_a_state_keeps_no_guest_from_booting(
    unsaved: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> bytes:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(state.machine, "initramfs", full)
    assert [*unsaved.folder.glob("initramfs-*")]  # the guest's own was copied with the kernel
    assert asked(unsaved, "print(1)") == 1
    assert "No space left" in state.why_not(unsaved)


def test_a_full_disk_has_no_room_for_the_reason_either(linux: Kernel, tmp_path: Path) -> None:
    code = f"""
import subprocess
from pathlib import Path
from helpers.vm import machine, state
from helpers.vm.fetch import Kernel

disk = Path({str(tmp_path)!r})
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", disk], check=True)
of = Kernel("6.1", {linux.release!r}, disk / "kernel")
of.folder.mkdir()
(of.folder / "lib").symlink_to({str(linux.folder / "lib")!r})
assert state.of(of, "tcg", machine.MEMORY) is None
assert "No space left" in state.why_not(of), "there was room for that, without the half state"
state._failed(of).unlink()
with (disk / "others").open("wb", 0) as others:
    try:
        while others.write(bytes(4096)):
            pass
    except OSError:
        pass
assert state.of(of, "tcg", machine.MEMORY) is None
assert not state.why_not(of)
assert not [*disk.rglob("*-state-*")]
"""
    line = ["unshare", "--mount", sys.executable, "-c", code]
    subprocess.run(
        line, cwd=kernel.ROOT, env=os.environ | {"XDG_CACHE_HOME": str(tmp_path)}, check=True
    )


def test_why_a_kernel_boots_is_forgotten_at_the_next_boot_of_the_machine(unsaved: Kernel) -> None:
    failed = state._failed(unsaved)
    failed.write_text("The machine was too busy.")
    assert state.why_not(unsaved) == "The machine was too busy."
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().partition("-")[0]
    failed.rename(failed.with_name(failed.name.replace(boot, "01234567")))
    assert not state.why_not(unsaved)


def test_who_is_killed_while_saving_leaves_nothing(unsaved: Kernel) -> None:
    code = f"""
from pathlib import Path
from helpers.vm import state
from helpers.vm.fetch import Kernel
state.of(Kernel("6.1", {unsaved.release!r}, Path({str(unsaved.folder)!r})), "tcg", {machine.MEMORY})
"""
    saver = subprocess.Popen([sys.executable, "-c", code], cwd=kernel.ROOT)
    until(qemus)
    time.sleep(3)
    saver.kill()
    saver.wait()
    until(lambda: not qemus(), 10)
    until(lambda: not [*kernel.cache_dir("vm", "guests").glob(f"{saver.pid}-*")], 10)
    assert not [*unsaved.folder.glob("state-*")]
    assert asked(unsaved, "print(1)") == 1


def test_a_state_that_is_removed_as_a_guest_begins_serves_it_all_the_same(
    unsaved: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by another process, for which a state of other things is the one to make."""
    assert asked(unsaved, "print(1)") == 1
    [saved] = unsaved.folder.glob("state-*")
    keep = machine.keep

    def removed_before(folder: Path, line: list[str]) -> Any:
        saved.unlink()
        return keep(folder, line)

    monkeypatch.setattr(machine, "keep", removed_before)
    assert asked(unsaved, "import sys; print(int('pandas' in sys.modules))") == 1
    assert not saved.exists()


def test_a_state_that_is_damaged_is_told_of_and_made_anew(unsaved: Kernel) -> None:
    assert asked(unsaved, "import sys; print(int('pandas' in sys.modules))") == 1
    [saved] = unsaved.folder.glob("state-*")
    whole = saved.stat().st_size
    with saved.open("r+b") as file:
        file.truncate(whole // 2)
    with pytest.raises(BpfError, match=r"is damaged, and was removed.\nStart again"):
        asked(unsaved, "print(1)")
    assert asked(unsaved, "print(1)") == 1
    [again] = unsaved.folder.glob("state-*")
    assert again.stat().st_size > whole // 2
