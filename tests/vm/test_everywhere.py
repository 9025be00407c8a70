"""The same functions on this kernel and in guests, and what comes back."""

import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers import everywhere, kernel, load
from helpers.errors import BpfError
from helpers.vm import fetch
from helpers.vm.boot import EmulatorFault, in_guest

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(autouse=True)
def two_kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This one and 6.1, however many are in the cache."""
    linux = fetch.present("6.1") or fetch.add("6.1")
    monkeypatch.setattr(fetch, "kernels", lambda: [linux])
    yield


def test_each_kernel_answers_for_itself(capsys: pytest.CaptureFixture[str]) -> None:
    places = 10  # travels along

    def system() -> str:
        return platform.release()

    def left() -> int:
        with load("lru.bpf.c", defines={"FLOWS": places}) as prog:
            for key in range(15):
                prog["cache"][key] = 0
            return len(prog["cache"])

    def kprobes() -> bool:
        return kernel.has_kprobes()

    facts = everywhere(system, left, kprobes)
    assert list(facts.columns) == ["release", "system", "left", "kprobes"]
    assert set(facts.system) == {platform.release(), fetch.get("6.1").release}
    assert (facts.release == facts.system).all()
    assert facts.index[0] == "Linux 6.1" and facts.index.name == "kernel"
    assert facts.left.between(1, 9).all()
    assert bool(facts.kprobes["Linux 6.1"])
    assert capsys.readouterr().out.count(" answered after ") == 2


def test_a_function_that_raises_is_named_with_its_kernel() -> None:
    def only_in_a_guest() -> int:
        return 1 // (not in_guest())

    wrong = "On Linux 6.1.*, only_in_a_guest.. raised ZeroDivisionError: integer division"
    with pytest.raises(BpfError, match=wrong):
        everywhere(only_in_a_guest)


def test_only_data_comes_back() -> None:
    def secret() -> object:
        return object()

    with pytest.raises(BpfError, match="secret.. raised TypeError: .* not JSON serializable"):
        everywhere(secret)


def test_a_kernel_is_asked_once_more_when_the_emulator_was_at_fault(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Not to be had on purpose: this kernel panics for another reason, with the words of that."""
    asked = kernel.ROOT / f"asked-{os.getpid()}"  # the course's folder is writable there

    def often() -> int:
        with asked.open("a") as file:
            file.write("x")
        # Never by the version: a Debian 12 that runs these tests is a 6.1 itself.
        if in_guest() and len(asked.read_text()) <= faults:
            Path("/dev/kmsg").write_text("<0>int3: 0000 [#1] PREEMPT SMP NOPTI")
            Path("/proc/sysrq-trigger").write_text("c")
            time.sleep(100)
        return len(asked.read_text())

    try:
        faults = 2  # this kernel writes one, too
        assert everywhere(often).often["Linux 6.1"] == 3
        said = capsys.readouterr().err
        assert "QEMU before 8.1 may run" in said and "6.1.0" in said and "asked once more" in said
        faults = 1000
        with pytest.raises(EmulatorFault, match="no fault of yours"):
            everywhere(often)
    finally:
        asked.unlink(missing_ok=True)


def test_a_kernel_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow() -> None:
        time.sleep(100 if in_guest() else 0)

    monkeypatch.setattr("helpers.vm.everywhere.SECONDS", 12)
    with pytest.raises(BpfError, match=r"Linux 6.1\S+ did not answer within 12 s. It said last"):
        everywhere(slow)


def test_a_python_that_ends_says_so() -> None:
    def leaves() -> None:
        import os

        os._exit(3)

    with pytest.raises(BpfError, match="Python ended with exit code 3"):
        everywhere(leaves)
