"""The programs of tests/verifier on 6.1 and on every other kernel at hand: their words differ."""

import functools
from typing import Any

import pytest

from helpers.vm import fetch
from helpers.vm.everywhere import ask
from helpers.vm.fetch import Kernel
from tests.verifier.programs import Expected, expected, names, verdicts

pytestmark = pytest.mark.timeout(400)
KERNELS = sorted({"6.1", *(of.name for of in fetch.kernels())})


@functools.cache
def told(of: Kernel) -> dict[str, Any]:
    verdicts()  # compiled here: the guest finds the objects in the cache
    return ask(of, verdicts)


@pytest.mark.parametrize("name", names(compiled=True))
@pytest.mark.parametrize("release", KERNELS)
def test_a_program_is_told_what_is_wrong(release: str, name: str, linux: Kernel) -> None:
    answers = told(linux if release == "6.1" else fetch.get(release))
    said, text = answers["verdicts"][name]
    assert Expected(*said) == expected(name, answers["release"]), text
