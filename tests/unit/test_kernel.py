"""Probes, the doctor, the cache, and the sweep."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers import kernel, sandbox
from helpers.errors import NotFound, PermissionNeeded, Unsupported
from helpers.libbpf import lib
from helpers.maps import open_map
from tests.vm.conftest import until


def test_the_doctor_finds_this_machine_ready() -> None:
    report = kernel.doctor()
    assert report.ok, report
    assert json.loads(report.as_json())["ok"] is True
    assert "Everything that the course needs is here." in repr(report)
    assert "<table>" in report._repr_html_()


def test_the_doctor_says_what_is_missing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "helpers.cli", "doctor", "--json"],
        capture_output=True,
        text=True,
        cwd=kernel.ROOT,
        env=os.environ | {"PATH": str(tmp_path)},
    )
    report = json.loads(done.stdout)
    missing = {f["what"]: f for f in report["findings"] if not f["ok"] and f["required"]}
    assert done.returncode == 1
    assert not report["ok"]
    assert missing["clang"]["remedy"] == "Install it with: ./course install"
    assert "BPF maps" not in missing


def test_the_doctor_sees_what_is_not_mounted() -> None:
    """In a mount namespace of the test's own, with bpffs and tracefs out of sight."""
    places = ("/sys/fs/bpf", "/sys/kernel/tracing")
    # Private first: else a mount over it would show up outside as well.
    hide = [f"mount --make-private {at} && mount -t tmpfs none {at}" for at in places]
    script = " && ".join([*hide, f"{sys.executable} -m helpers.cli doctor --json"])
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "unchanged", "sh", "-c", script],
        capture_output=True,
        text=True,
        cwd=kernel.ROOT,
    )
    found = {f["what"]: f for f in json.loads(done.stdout)["findings"]}
    for what in ("bpffs", "tracefs"):
        assert not found[what]["ok"]
        assert "is not mounted" in found[what]["found"]
        assert found[what]["remedy"] == "Run: ./course install"


def test_the_doctor_sees_that_processes_have_other_numbers() -> None:
    """As in a container: there a program that watches "this process" watches another."""
    code = """
import os
import threading
from helpers import kernel, load
with load("first.bpf.c", defines={"ONLY": threading.get_native_id()}) as prog:
    prog.attach("count_call")
    os.getppid()
    assert not dict(prog["calls"])
report = kernel.doctor()
assert report.ok
found, = [f for f in report.findings if f.what == "process numbers"]
assert not found.ok and "--pid=host" in found.remedy, found
"""
    line = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", code]
    subprocess.run(line, check=True, cwd=kernel.ROOT)


def test_probes_try_rather_than_guess() -> None:
    assert kernel.has_map_type("hash")
    assert kernel.cpus() >= len(kernel.online_cpus()) >= 1
    assert kernel.MAP_TYPES.index("ringbuf") == 27
    assert kernel.MAP_TYPES.index("sockhash") == 18


def test_without_btf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "exists", lambda path: False)
    with pytest.raises(Unsupported, match="CONFIG_DEBUG_INFO_BTF"):
        kernel.vmlinux_btf()


def test_vmlinux_header_is_made_once() -> None:
    folder = kernel.vmlinux_header()
    assert "struct task_struct {" in (folder / "vmlinux.h").read_text()
    before = (folder / "vmlinux.h").stat().st_mtime_ns
    assert kernel.vmlinux_header() == folder
    assert (folder / "vmlinux.h").stat().st_mtime_ns == before


def test_a_cache_that_is_not_ours_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "bpf-maps-measured").symlink_to(elsewhere)
    with pytest.raises(PermissionNeeded, match="not yours"):
        kernel.cache_dir("objects")
    (tmp_path / "bpf-maps-measured").unlink()
    assert kernel.cache_dir("objects").stat().st_mode & 0o777 == 0o700
    os.chown(tmp_path / "bpf-maps-measured", 65534, 65534)
    with pytest.raises(PermissionNeeded, match="not yours"):
        kernel.cache_dir("objects")


PINNED = """
import sys
from helpers import kernel, load
prog = load("pinning.bpf.c")
path = prog["totals"].pin("swept/totals")
assert path == kernel.PINS / "swept/totals"
print(path, flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def notebook() -> Iterator[tuple["subprocess.Popen[str]", Path]]:
    """A process that has pinned a map, and does not unpin it; and the pin."""
    env = {name: value for name, value in os.environ.items() if name != kernel.OWNER}
    pipe = subprocess.PIPE
    line = [sys.executable, "-c", PINNED]
    process = subprocess.Popen(line, stdin=pipe, stdout=pipe, text=True, cwd=kernel.ROOT, env=env)
    assert process.stdout
    try:
        yield process, Path(process.stdout.readline().strip())
    finally:
        process.kill()
        process.communicate()


def test_the_sweep_removes_what_dead_notebooks_pinned_and_no_more() -> None:
    # Where no other notebook of this machine has pinned anything.
    sandbox.with_own_pins(sweep_all_but_the_living)


def sweep_all_but_the_living() -> None:
    other = kernel.BPFFS / "not_of_the_course"
    with notebook() as (dead, pin), notebook() as (_, kept):
        with open_map(pin=pin) as it:
            assert lib().bpf_obj_pin(it.fd, os.fsencode(other)) == 0
        assert kernel.sweep() == []
        dead.kill()  # and not waited for: a zombie is gone, too
        whose = [str(path) for path in (pin, pin.parent, pin.parent.parent)]
        until(lambda: kernel.sweep(dry_run=True) == whose, 10)
        assert pin.exists()
        assert kernel.sweep() == whose
        assert kernel.sweep() == []
        with pytest.raises(NotFound):
            open_map(pin=pin)
        open_map(pin=kept).close()
        assert str(kept) in kernel.sweep(everybody=True, dry_run=True)
        assert kept.exists()
        assert str(kernel.OURS) in kernel.sweep(everybody=True)
        assert not kernel.OURS.exists()
        open_map(pin=other).close()


def test_an_owner_is_a_process_and_its_beginning() -> None:
    me = kernel.PINS.name
    pid, began = me.split("_")
    assert kernel._lives(pid, began)
    assert not kernel._lives(pid, str(int(began) + 1))  # its number came again
    assert not kernel._lives("chapter", "11")  # what an older course pinned


def test_bcc_is_the_one_that_makes_programs() -> None:
    assert hasattr(kernel.import_bcc(), "BPF")
    assert (kernel.headers_for_bcc() / "include").is_dir()


def test_what_a_cell_needs_is_here_or_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (
        kernel.needs("atomic-fetch")
        == kernel.has_atomic_fetch()
        == (kernel.version_here() >= (5, 12))
    )
    assert capsys.readouterr().out == ""
    lacked = kernel.FEATURES["kprobe"]._replace(here=lambda: False)
    monkeypatch.setitem(kernel.FEATURES, "kprobe", lacked)
    assert not kernel.needs("kprobe")
    assert "kprobe" in kernel.missing()
    assert "This cell needs kprobes (CONFIG_KPROBES), and there is" in capsys.readouterr().out
    with pytest.raises(NotFound, match="knows no feature 'wings'"):
        kernel.needs("wings")
