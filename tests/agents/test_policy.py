import json
import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from agents.policy import (
    FORMAT,
    PolicyFile,
    PolicyFileError,
    PolicySpec,
    checksum,
    initialise,
    load_policy,
    require_spec,
    save_policy,
    views,
    write_atomically,
)
from configs.schema import NetworkConfig
from tests.agents_helpers import SPEC, make_flat, make_spec

POLICY = PolicyFile(spec=SPEC, flat=make_flat(), version=41, trained={"env": "relay"})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A good policy file."""
    file = tmp_path / "policy.safetensors"
    save_policy(file, POLICY)
    return file


# --- layout, views, first values ------------------------------------------------------------------


def test_layout_is_independent_of_population_and_its_sizes_add_up() -> None:
    names = [name for name, _ in SPEC.layout]
    assert len(set(names)) == len(names)
    assert SPEC.size == sum(int(np.prod(shape)) for _, shape in SPEC.layout)
    assert dict(SPEC.layout)["scorer_hidden.weight"] == (9, 2 * 6 + 2)
    assert dict(SPEC.layout)["message.weight"] == (7, 2 * 8)


def test_spec_takes_its_sizes_from_the_network_config() -> None:
    network = NetworkConfig(
        hidden=8,
        message=7,
        attention=3,
        beacon=6,
        edge_embedding=2,
        scorer=9,
        message_dtype="float32",
        beacon_dtype="float32",
    )
    wanted = make_spec(message_dtype="float32", beacon_dtype="float32")
    assert PolicySpec.of(network, 5, 4) == wanted


def test_views_tile_the_vector_in_layout_order() -> None:
    flat = np.arange(SPEC.size, dtype=np.float32)
    tensors = views(SPEC, flat)
    assert [(name, tensor.shape) for name, tensor in tensors.items()] == list(SPEC.layout)
    assert_array_equal(np.concatenate([tensor.ravel() for tensor in tensors.values()]), flat)


def test_views_write_through_to_the_vector() -> None:
    flat = np.zeros(SPEC.size, dtype=np.float32)
    views(SPEC, flat)["scorer_out.bias"][0] = 7.0
    assert flat[-1] == 7.0


@pytest.mark.parametrize("size", [0, SPEC.size - 1, SPEC.size + 1])
def test_views_refuse_a_vector_of_another_length(size: int) -> None:
    with pytest.raises(ValueError, match=rf"\({size},\).*\({SPEC.size},\)"):
        views(SPEC, np.zeros(size, dtype=np.float32))


def test_checksum_is_that_of_the_little_endian_bytes() -> None:
    flat = np.array([1.0, -2.5], dtype=np.float32)
    assert checksum(flat) == zlib.crc32(b"\0\0\x80\x3f\0\0\x20\xc0")


def test_an_untrained_policy_stays_within_its_fan_in() -> None:
    tensors = views(SPEC, initialise(SPEC, np.random.default_rng(0)))
    for name, tensor in tensors.items():
        layer = name.split(".")[0]
        fan_in = SPEC.hidden if layer == "gru" else tensors[f"{layer}.weight"].shape[1]
        if name != "scorer_out.bias":
            assert np.abs(tensor).max() <= 1.0 / np.sqrt(fan_in)
    weights = tensors["gru.weight_hh"]
    assert np.abs(weights).max() > 0.9 / np.sqrt(SPEC.hidden)


def test_an_untrained_gate_is_biased_towards_open() -> None:
    flat = initialise(SPEC, np.random.default_rng(0))
    assert views(SPEC, flat)["scorer_out.bias"][0] == 1.0


def test_equal_seeds_draw_equal_policies() -> None:
    first, second, other = (initialise(SPEC, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert_array_equal(first, second)
    assert (first != other).any()


@pytest.mark.parametrize("size", [0, -1, 65_537])
def test_spec_refuses_a_dimension_out_of_range(size: int) -> None:
    with pytest.raises(ValueError, match=rf"policy hidden must be between 1 and 65536, got {size}"):
        replace(SPEC, hidden=size)


# --- the file -------------------------------------------------------------------------------------


def test_a_policy_file_gives_back_what_was_saved(path: Path) -> None:
    loaded = load_policy(path)
    assert (loaded.spec, loaded.version) == (SPEC, 41)
    assert dict(loaded.trained) == {"env": "relay"}
    assert_array_equal(loaded.flat, POLICY.flat)
    assert not path.with_name(path.name + ".tmp").exists()


Change = Callable[[bytes], bytes]
"""What befalls a file's bytes."""


def unpack(content: bytes) -> tuple[dict[str, Any], bytes]:
    """A safetensors file: length of the header, the header in JSON, the numbers."""
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def pack(header: dict[str, Any], numbers: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + numbers


def with_metadata(**changes: str | None) -> Change:
    """Set entries of the metadata; None removes one."""

    def change(content: bytes) -> bytes:
        header, numbers = unpack(content)
        metadata = header["__metadata__"] | changes
        header["__metadata__"] = {key: text for key, text in metadata.items() if text is not None}
        return pack(header, numbers)

    return change


def with_spec(**changes: object) -> Change:
    return with_metadata(spec=json.dumps(asdict(SPEC) | changes))


def without_metadata(content: bytes) -> bytes:
    header, numbers = unpack(content)
    del header["__metadata__"]
    return pack(header, numbers)


def with_tensor(name: str, **changes: object) -> Change:
    def change(content: bytes) -> bytes:
        header, numbers = unpack(content)
        header[name] |= changes
        return pack(header, numbers)

    return change


def renamed_tensor(content: bytes) -> bytes:
    header, numbers = unpack(content)
    header["encoder.blas"] = header.pop("encoder.bias")
    return pack(header, numbers)


def flipped(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


def with_nan(content: bytes) -> bytes:
    header, _ = unpack(content)
    flat = POLICY.flat.copy()
    flat[5] = np.nan
    numbers = bytearray(unpack(content)[1])
    start, _ = header["encoder.weight"]["data_offsets"]
    numbers[start + 20 : start + 24] = flat[5:6].tobytes()
    header["__metadata__"]["crc32"] = str(checksum(flat))
    return pack(header, bytes(numbers))


BAD: dict[str, tuple[Change, str]] = {
    "empty": (lambda _: b"", "cannot be read"),
    "not safetensors": (lambda _: b"PK\x03\x04" * 50, "cannot be read"),
    "header cut off": (lambda content: content[:100], "cannot be read"),
    "numbers cut off": (lambda content: content[:-10], "cannot be read"),
    "a type that numpy lacks": (
        with_tensor("encoder.bias", dtype="BF16", shape=[16]),
        "cannot be read",
    ),
    "no metadata": (without_metadata, f"has format None, expected '{FORMAT}'"),
    "another format": (with_metadata(format="murmuration-policy/2"), "murmuration-policy/2"),
    "no spec": (with_metadata(spec=None), "damaged metadata"),
    "spec is no JSON": (with_metadata(spec="{"), "damaged metadata"),
    "spec is a list": (with_metadata(spec="[]"), "damaged metadata"),
    "spec is a number": (with_metadata(spec="3"), "damaged metadata"),
    "extra spec field": (with_spec(wings=4), "damaged metadata.*wings"),
    "spec field of another type": (with_spec(hidden="8"), "damaged metadata.*hidden"),
    "unknown dtype in spec": (with_spec(message_dtype="float64"), "damaged metadata.*message"),
    "dimension zero": (with_spec(hidden=0), "damaged metadata.*hidden"),
    "dimension too large": (with_spec(beacon=1 << 20), "damaged metadata.*beacon"),
    "every dimension huge": (
        with_spec(hidden=65_536, message=65_536, scorer=65_536, beacon=65_536, num_actions=65_536),
        "encoder.weight is",
    ),
    "version is no number": (with_metadata(version="new"), "damaged metadata"),
    "version below zero": (with_metadata(version="-1"), "damaged metadata.*-1"),
    "version beyond the wire": (with_metadata(version=str(1 << 32)), "damaged metadata"),
    "trained is no JSON": (with_metadata(trained="{"), "damaged metadata"),
    "trained is a list": (with_metadata(trained="[]"), "damaged metadata"),
    "trained holds a number": (with_metadata(trained='{"env": 3}'), "damaged metadata"),
    "missing tensor": (renamed_tensor, r"encoder.bias is missing.*float32 \(8,\)"),
    "wrong shape": (
        with_tensor("encoder.weight", shape=[5, 8]),
        r"encoder.weight is float32 \(5, 8\).*\(8, 5\)",
    ),
    "wrong dtype": (with_tensor("encoder.bias", dtype="I32"), "encoder.bias is int32"),
    "flipped bit": (flipped, "checksum does not match"),
    "wrong checksum": (with_metadata(crc32="1"), "checksum does not match"),
    "NaN": (with_nan, "not finite"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_refused_with_its_name_and_the_reason(path: Path, kind: str) -> None:
    change, reason = BAD[kind]
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(PolicyFileError, match=reason) as refusal:
        load_policy(path)
    assert str(path) in str(refusal.value)


def test_rewriting_a_header_alone_harms_nothing(path: Path) -> None:
    # Otherwise the tests above would pass for the wrong reason.
    path.write_bytes(pack(*unpack(path.read_bytes())))
    assert_array_equal(load_policy(path).flat, POLICY.flat)


def test_a_missing_file_or_a_folder_is_refused(tmp_path: Path) -> None:
    for unreadable in (tmp_path / "nowhere.safetensors", tmp_path):
        with pytest.raises(PolicyFileError, match=str(unreadable)):
            load_policy(unreadable)


def test_require_spec_accepts_its_like() -> None:
    require_spec(Path("a.safetensors"), make_spec(), make_spec())


def test_require_spec_names_every_dimension_that_differs() -> None:
    found = replace(SPEC, hidden=64, beacon_dtype="float32")
    with pytest.raises(PolicyFileError) as refusal:
        require_spec(Path("a.safetensors"), found, SPEC)
    assert str(refusal.value) == (
        "policy file a.safetensors does not fit: hidden is 64, this run has 8; "
        "beacon_dtype is float32, this run has int8"
    )


@pytest.mark.parametrize(("more", "way_out"), [(2, "give"), (-2, "leave out")])
def test_require_spec_knows_a_position_that_is_missing(more: int, way_out: str) -> None:
    found = replace(SPEC, observation_dim=SPEC.observation_dim + more)
    with pytest.raises(PolicyFileError, match=rf"{way_out} --env\.options position=true\)$"):
        require_spec(Path("a.safetensors"), found, SPEC)


# --- whole or not at all --------------------------------------------------------------------------


def test_a_write_that_fails_halfway_leaves_the_old_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = path.read_bytes()

    def disk_full(_descriptor: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(OSError, match="no space left"):
        write_atomically(path, b"half of the new")
    assert path.read_bytes() == old


def test_what_an_earlier_crash_left_behind_is_overwritten(path: Path) -> None:
    path.with_name(path.name + ".tmp").write_bytes(b"longer than what is written now")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"


def test_a_policy_that_says_its_beacons_at_other_times_fits_all_the_same() -> None:
    require_spec(Path("a.safetensors"), make_spec(), make_spec(beacon_delta=0.3))


def test_a_policy_that_is_older_than_silence_says_every_change(path: Path) -> None:
    policy = load_policy(Path(__file__).parents[2] / "configs/policies/relay.safetensors")
    assert policy.spec.beacon_delta == 0.0
    spec = replace(policy.spec, beacon_delta=0.25)
    save_policy(path, replace(policy, spec=spec))
    assert load_policy(path).spec == spec
