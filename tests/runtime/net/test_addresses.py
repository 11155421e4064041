"""Addresses of hosts: IP addresses and DNS names, and what is neither."""

import pytest

from runtime.net.addresses import is_name, parse_address


@pytest.mark.parametrize(
    ("text", "usual"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("FD00:0::1", "fd00::1"),
        ("localhost", "localhost"),
        ("Node-0.Murmuration", "node-0.murmuration"),
        ("node-0.murmuration.default.svc.cluster.local",) * 2,
        ("3com.example",) * 2,
    ],
)
def test_an_address_has_one_usual_form(text: str, usual: str) -> None:
    assert parse_address(text) == usual


@pytest.mark.parametrize(
    "text",
    ["", "10.0.0.300", "10.0.0", "node-0.7", "-a", "a-", "a..b", "a.", "a_b", "a b", "a/b", "*",
     "a:7400", "é.org", "a" * 64, ".".join(["a" * 50] * 6)],
)  # fmt: skip
def test_what_is_neither_an_ip_address_nor_a_name_is_refused(text: str) -> None:
    assert not is_name(text)
    with pytest.raises(ValueError, match="IPv4 or IPv6"):
        parse_address(text)


@pytest.mark.parametrize("text", ["10.0.0.1", "::1", "127.0.0.1"])
def test_an_ip_address_is_no_name(text: str) -> None:
    assert not is_name(text)
