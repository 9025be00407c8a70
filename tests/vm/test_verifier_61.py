"""The programs of tests/verifier on Debian's 6.1, whose words and limits differ: one guest boot."""

from typing import Any

import pytest

from helpers.vm.everywhere import ask
from helpers.vm.fetch import Kernel
from tests.verifier.programs import Expected, expected, names, verdicts

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def told(linux: Kernel) -> dict[str, Any]:
    verdicts()  # compiled here: the guest finds the objects in the cache
    return ask(linux, verdicts)


@pytest.mark.parametrize("name", names(compiled=True))
def test_a_program_is_told_what_is_wrong(name: str, told: dict[str, Any]) -> None:
    said, text = told["verdicts"][name]
    assert Expected(*said) == expected(name, told["release"]), text
