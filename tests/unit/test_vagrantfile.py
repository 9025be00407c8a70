"""Vagrantfile, as Vagrant reads it for each provider. Nothing is brought up here."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from helpers.kernel import ROOT

pytestmark = pytest.mark.skipif(not shutil.which("vagrant"), reason="no vagrant on PATH")


def vagrant(tmp_path: Path, *command: str, **env: str):
    return subprocess.run(
        ["vagrant", *command],
        cwd=ROOT,
        env=os.environ
        | {"VAGRANT_HOME": str(tmp_path / "home"), "VAGRANT_DOTFILE_PATH": str(tmp_path / "dot")}
        | {"VAGRANT_CHECKPOINT_DISABLE": "1", "COURSE_ANY_VAGRANT": "1"}
        | env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


@pytest.fixture
def virtualbox(tmp_path: Path) -> str:
    """A PATH with a VBoxManage that says its version: all that validation asks of VirtualBox."""
    stub = tmp_path / "bin/VBoxManage"
    stub.parent.mkdir()
    stub.write_text("#!/bin/sh\necho 7.0.20r163906\n")
    stub.chmod(0o755)
    return f"{stub.parent}:{os.environ['PATH']}"


def test_it_is_valid_for_libvirt(tmp_path: Path) -> None:
    done = vagrant(tmp_path, "validate", VAGRANT_DEFAULT_PROVIDER="libvirt")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "Vagrantfile validated successfully.\n"


@pytest.mark.parametrize("debian", ["12", "13"])
def test_it_is_valid_for_virtualbox(tmp_path: Path, virtualbox: str, debian: str) -> None:
    env = {"VAGRANT_DEFAULT_PROVIDER": "virtualbox", "PATH": virtualbox, "COURSE_DEBIAN": debian}
    done = vagrant(tmp_path, "validate", **env)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_is_not_valid_is_noticed(tmp_path: Path, virtualbox: str) -> None:
    """So that the two tests above can fail: a setting that VirtualBox has not, by a user's file."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home/Vagrantfile").write_text(
        'Vagrant.configure("2") { |c| c.vm.provider("virtualbox") { |v| v.no_such = 1 } }\n'
    )
    env = {"VAGRANT_DEFAULT_PROVIDER": "virtualbox", "PATH": virtualbox}
    assert vagrant(tmp_path, "validate", **env).returncode == 1


def test_without_its_provider_vagrant_names_what_to_install(tmp_path: Path) -> None:
    tools = tmp_path / "bin"  # all but VirtualBox, wherever that is
    tools.mkdir()
    for name in ("vagrant", "ruby", "bsdtar", "curl", "ssh", "rsync", "uname", "env", "sh"):
        if found := shutil.which(name):
            (tools / name).symlink_to(found)
    done = vagrant(tmp_path, "up", VAGRANT_DEFAULT_PROVIDER="virtualbox", PATH=str(tools))
    assert done.returncode == 1
    assert "Vagrant could not detect VirtualBox! Make sure VirtualBox is properly installed" in (
        " ".join(done.stderr.split())
    )


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"COURSE_MEMORY": "1024"}, "COURSE_MEMORY=1024 will not do: compilers and notebooks"),
        ({"COURSE_PORT": "http"}, "COURSE_PORT=http will not do: ports that anyone may use"),
        ({"COURSE_DEBIAN": "11"}, "COURSE_DEBIAN=11 will not do: 12 or 13."),
        ({"COURSE_CA_BUNDLE": "/none"}, "COURSE_CA_BUNDLE=/none will not do: there is no such"),
    ],
)
def test_a_setting_that_will_not_do_is_named(
    tmp_path: Path, env: dict[str, str], words: str
) -> None:
    done = vagrant(tmp_path, "status", **env)
    assert done.returncode == 1
    assert done.stderr.startswith(words)
    assert len(done.stderr.splitlines()) == 1


def test_a_vagrant_that_is_too_old_says_why(tmp_path: Path) -> None:
    done = vagrant(tmp_path, "validate", COURSE_ANY_VAGRANT="")
    version = subprocess.run(["vagrant", "--version"], capture_output=True, text=True).stdout
    if version.split()[1] >= "2.4":
        assert done.returncode == 0
        return
    assert done.returncode == 1
    assert "cannot choose a box by processor" in done.stderr
    assert "COURSE_ANY_VAGRANT=1 vagrant up" in done.stderr
