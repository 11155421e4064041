import pytest

from runtime.net.ticks import MODULUS, ahead


@pytest.mark.parametrize(
    ("tick", "reference", "distance"),
    [
        (5, 5, 0),
        (6, 5, 1),
        (4, 5, -1),
        (0, MODULUS - 1, 1),
        (MODULUS - 1, 0, -1),
        (MODULUS // 2 - 1, 0, MODULUS // 2 - 1),
        (MODULUS // 2, 0, -MODULUS // 2),
    ],
)
def test_the_later_tick_is_the_one_that_counting_up_reaches_first(
    tick: int, reference: int, distance: int
) -> None:
    assert ahead(tick, reference) == distance
