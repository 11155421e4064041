"""Step numbers on the wire: 32 bits that wrap, compared as on a clock face (RFC 1982).

Ten ticks a second since 1970 are more than 2^32, and a robot may run for years. Of two numbers the
later one is that which is reached first by counting up.
"""

MODULUS = 1 << 32
_HALF = MODULUS // 2


def ahead(tick: int, reference: int) -> int:
    """How many ticks `tick` lies after `reference` (negative: before it)."""
    return (tick - reference + _HALF) % MODULUS - _HALF
