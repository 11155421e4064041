"""What a host's address may be: an IP address, or a DNS name that is looked up at every connection.

A cluster gives a machine that starts anew another IP address under the same name, so names stay
names: ZeroMQ looks them up when it binds and whenever it connects (as IPv4 addresses).
"""

import ipaddress
import re

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_NAME = re.compile(rf"(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})*")
_DIGITS = re.compile(r"[\d.]+|.*\.\d+")


def is_name(address: str) -> bool:
    """Whether this is a DNS name. 10.0.0.300 is none: a last label of digits would be an address
    (RFC 3696, section 2)."""
    text = address.lower()
    return bool(_NAME.fullmatch(text)) and not _DIGITS.fullmatch(text)


def parse_address(text: str) -> str:
    """The usual form of an IP address or name: "FD00:0::1" -> "fd00::1".

    Raises:
        ValueError: it is neither.
    """
    return text.lower() if is_name(text) else str(ipaddress.ip_address(text))
