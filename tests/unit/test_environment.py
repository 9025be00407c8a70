"""environment.yml and requirements.lock say the same, one by names and one by hashes."""

import re
import subprocess
import sys

import yaml

from helpers.kernel import ROOT
from tests.faults import audit

CONDA = (ROOT / "environment.yml").read_text()
LOCK = (ROOT / "requirements.lock").read_text()

# name, version, marker, and what follows up to the next package: hashes and who needs it
ENTRIES = re.findall(r"^([\w.-]+)==(\S+)(.*?) \\\n((?:    .*\n)+)", LOCK, re.MULTILINE)
LOCKED = {name for name, *_ in ENTRIES}


def direct() -> set[str]:
    pip = yaml.safe_load(CONDA)["dependencies"][-1]["pip"]
    return {name for name in pip if name != "-e ."}


def test_every_direct_package_is_locked() -> None:
    assert direct() <= LOCKED


def test_nothing_is_lacking_that_a_locked_package_needs() -> None:
    """pip is told to bring what the locks name, and no more."""
    said = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True)
    assert said.returncode == 0, said.stdout


def test_nothing_is_locked_that_nobody_asked_for() -> None:
    roots = {name for name, _, _, rest in ENTRIES if "# via" not in rest}
    assert roots <= direct()


def test_every_line_of_the_lock_belongs_to_a_pin_with_hashes() -> None:
    text = re.sub(r"^#.*\n", "", LOCK, flags=re.MULTILINE).replace("--only-binary :all:\n", "")
    for name, version, marker, rest in ENTRIES:
        text = text.replace(f"{name}=={version}{marker} \\\n{rest}", "")
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", rest), name
    assert text.strip() == ""  # so no index, no address and no unpinned package either


def test_the_lock_serves_the_pythons_that_are_supported() -> None:
    numpy = {marker.strip(" ;") for name, _, marker, _ in ENTRIES if name == "numpy"}
    assert numpy in ({""}, {"python_full_version < '3.12'", "python_full_version >= '3.12'"})


def test_no_package_is_in_two_locks() -> None:
    """What the tests add to a .venv must not change what a learner has."""
    names = [re.findall(r"^([\w.-]+)==", (ROOT / lock).read_text(), re.M) for lock in audit.LOCKS]
    assert all(names)
    once = [{*found} for found in names]  # a package may have a version for each Python
    assert sum(map(len, once)) == len(set.union(*once))


def test_bcc_is_the_distributions_and_the_file_says_so() -> None:
    assert "bcc" not in LOCKED | direct()
    comment = " ".join(line.lstrip("# ") for line in CONDA.splitlines() if line.startswith("#"))
    assert "PyPI's bcc is another project" in comment
    assert "apt-get install python3-bpfcc" in comment


def test_the_command_in_the_lock_reads_the_names_of_the_environment() -> None:
    pattern = re.search(r"sed -n 's/(.*?)/\\1/p' environment\.yml", LOCK)
    assert pattern
    expression = pattern[1].replace(r"\(", "(").replace(r"\)", ")")
    found = {
        m.string[m.start(1) :] for m in map(re.compile(expression).match, CONDA.splitlines()) if m
    }
    assert found == direct()
