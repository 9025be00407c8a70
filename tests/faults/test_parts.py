"""The first rounds of each kind of harm; all of them: ./course test --soak."""

import pytest

from tests.faults import Part, parts


@pytest.mark.parametrize(
    ("part", "number"),
    [
        pytest.param(part, number, id=f"{name}-{number}")
        for name, part in parts().items()
        for number in range(part.short)
    ],
)
def test_it_holds(part: Part, number: int) -> None:
    part.one(number)
