"""A Debian with nothing but its base system: does the course install there, and work?"""

import json
import re
import shutil
from collections.abc import Iterator

import pytest

from tests.fresh.machines import RELEASES, Machine, made

pytestmark = pytest.mark.timeout(2400)


@pytest.fixture(scope="module", params=RELEASES, ids=lambda release: release.suite)
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    with made(request.param) as machine:
        yield machine


def test_nothing_but_the_base_is_there(machine: Machine) -> None:
    for name in ("python3", "clang", "pip", "git", "sudo", "ip", "curl"):
        assert shutil.which(name, path=f"{machine.folder}/usr/bin") is None


def test_it_installs(machine: Machine) -> None:
    said = machine.run("./course", "install")
    assert said.endswith("all is there: ./course lab opens the first notebook\n")
    assert "packages: " in said and "venv: " in said


def test_installing_again_does_nothing(machine: Machine) -> None:
    said = machine.run("./course", "install")
    assert said == "all is there: ./course lab opens the first notebook\n"


def doctor(machine: Machine, *options: str) -> str:
    """What the doctor says. What ./course mounts goes with each command, so install comes first."""
    line = './course install >/dev/null && ./course doctor "$@"'
    return machine.run("bash", "-c", line, "doctor", *options)


def test_the_versions_are_those_of_the_release(machine: Machine) -> None:
    release = machine.release
    assert machine.run("/usr/bin/python3", "--version").startswith(f"Python {release.python}.")
    report = json.loads(doctor(machine, "--json"))
    found = {finding["what"]: finding["found"] for finding in report["findings"]}
    assert found["BCC"].startswith(f"{release.bcc}.")
    assert found["libbpf"] == f"v{release.libbpf}"
    assert re.search(rf"\b{release.clang}\.\d+\.\d+", found["clang"])


def test_the_doctor_finds_all_that_is_needed(machine: Machine) -> None:
    assert "Everything that the course needs is here." in doctor(machine)


def test_the_unit_tests_pass(machine: Machine) -> None:
    said = machine.run("./course", "test", "-q", "-rfEs", "--tb=short", "tests/unit")
    assert re.search(r"^\d+ passed", said.splitlines()[-1]), said
    skipped = [line for line in said.splitlines() if line.startswith("SKIPPED")]
    # Vagrant is no part of ./course install; its lane has a machine to itself. Kprobes are the
    # kernel's, which is this one: guests have them.
    due = re.compile(r"no vagrant on PATH|needs kprobes .*: tests/vm/\S+ runs it")
    assert all(due.search(line) for line in skipped), said


def test_random_types_read_as_others_read_them(machine: Machine) -> None:
    """From clang 15 on, an enum of 8 bytes is of a kind of its own in BTF."""
    said = machine.run("./course", "test", "-q", "tests/faults/test_parts.py", "-k", "types")
    assert re.search(r"^1 passed", said.splitlines()[-1]), said


def test_chapter_02_shows_what_it_shows_here(machine: Machine) -> None:
    said = machine.run("./course", "test", "-q", "notebooks/02_hash_maps.ipynb")
    assert re.search(r"^\d+ passed in", said.splitlines()[-1]), said
