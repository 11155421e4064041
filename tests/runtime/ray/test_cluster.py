"""What a person is told when Ray is not there; tests/process/test_ray.py has one that is."""

import socket
import sys

import pytest

from runtime.net.errors import SetupError
from runtime.ray.cluster import connect, import_ray, one_line
from tests.process.ray_cluster import needs_ray


def test_without_the_package_the_line_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SetupError, match=r'--placer ray needs Ray: install it with .*"\.\[ray\]"'):
        import_ray("--placer ray")


@needs_ray
@pytest.mark.parametrize(
    "address",
    ["nonsense", "10.0.0.1", "10.0.0.1:ray", "10.0.0.1:99999", ":1", "http://10.0.0.1:8265"],
)
def test_what_is_no_address_is_named(address: str) -> None:
    with pytest.raises(SetupError, match="expected ADDRESS:PORT or auto"):
        connect(address, "--placer ray")


@needs_ray
def test_an_address_where_nobody_listens_is_named_at_once() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(SetupError, match=f"--ray-address {address}: nobody answers there"):
            connect(address, "--placer ray")


@needs_ray
def test_auto_means_what_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "nonsense")
    with pytest.raises(SetupError, match="RAY_ADDRESS nonsense: expected ADDRESS:PORT"):
        connect("auto", "--placer ray")
    monkeypatch.setenv("RAY_ADDRESS", "ray://10.0.0.1:10001")
    with pytest.raises(
        SetupError, match=r"RAY_ADDRESS ray://10\.0\.0\.1:10001: a Ray client is no"
    ):
        connect("auto", "--placer ray")


@needs_ray
def test_a_ray_client_is_refused_with_the_way_out() -> None:
    with pytest.raises(SetupError, match="no machine of the cluster: run this on one"):
        connect("ray://10.0.0.1:10001", "--placer ray")


def test_of_an_error_with_many_lines_the_last_one_is_shown() -> None:
    assert one_line(RuntimeError("a\n  b: it\n\n")) == "b: it"
    assert one_line(RuntimeError()) == "RuntimeError"
