"""The file of a pre-training: what it holds, and what it does not fit."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from safetensors.numpy import save

from agents.comm.nvif import Nvif
from agents.policy import PolicyFile, PolicySpec, initialise, views
from agents.pretrained import (
    PretrainedError,
    begin_with,
    load_pretrained,
    made_with,
    require_within,
    save_pretrained,
)
from configs.arrays import FloatArray
from tests.agents_helpers import make_spec

SPEC: PolicySpec = replace(
    make_spec(), message=9, scheme="nvif", scheme_options="code=4,state=4,latent=3"
)


def drawn(spec: PolicySpec = SPEC, seed: int = 1) -> dict[str, FloatArray]:
    tensors = views(spec, initialise(spec, np.random.default_rng(seed)))
    return {name: tensors[name] for name, _ in Nvif.pretrained_layout(spec)}


def saved(folder: Path, spec: PolicySpec = SPEC) -> Path:
    path = folder / "nvif.safetensors"
    save_pretrained(path, spec, drawn(spec), {"epochs": 3})
    return path


def test_a_policy_begins_with_its_tensors_and_keeps_the_others(tmp_path: Path) -> None:
    flat = initialise(SPEC, np.random.default_rng(2))
    before = {name: tensor.copy() for name, tensor in views(SPEC, flat).items()}
    begin_with(SPEC, flat, load_pretrained(saved(tmp_path), SPEC))
    wanted = {**before, **drawn()}
    for name, tensor in views(SPEC, flat).items():
        assert_array_equal(tensor, wanted[name], err_msg=name)
    assert not np.array_equal(before["latent.weight"], wanted["latent.weight"])


def test_it_says_how_it_was_made(tmp_path: Path) -> None:
    assert made_with(saved(tmp_path)) == {"epochs": 3}


def test_a_file_that_does_not_say_how_it_was_made_is_one_line(tmp_path: Path) -> None:
    (path := tmp_path / "other.safetensors").write_bytes(save({"code.weight": np.zeros(3)}))
    with pytest.raises(PretrainedError, match="does not say how it was made"):
        made_with(path)


def test_it_fits_a_policy_with_another_head(tmp_path: Path) -> None:
    load_pretrained(saved(tmp_path), replace(SPEC, hidden=32, num_actions=9))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"observation_dim": 6}, "code_hidden.weight is float32 (128, 5), this run asks for"),
        (
            {"scheme_options": "code=4,state=4,latent=3,neighbours=true"},
            "made with --comm.options code=4,state=4,latent=3, this run has code=4,",
        ),
        ({"scheme_options": "code=4,state=4"}, "made with --comm.options code=4,state=4,latent=3"),
        ({"scheme": "sops", "scheme_options": ""}, "--comm sops has nothing that is pre-trained"),
    ],
)
def test_what_it_does_not_fit_is_one_line(
    tmp_path: Path, change: dict[str, object], says: str
) -> None:
    other: PolicySpec = replace(SPEC, **change)  # pyright: ignore[reportArgumentType]
    with pytest.raises(PretrainedError) as caught:
        load_pretrained(saved(tmp_path), other)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_options_may_be_said_otherwise(tmp_path: Path) -> None:
    other = "state=4,code=4,latent=3,neighbours=false"
    load_pretrained(saved(tmp_path), replace(SPEC, scheme_options=other))


def test_a_policy_goes_on_with_the_file_that_it_began_with_and_no_other(tmp_path: Path) -> None:
    flat = initialise(SPEC, np.random.default_rng(2))
    tensors = load_pretrained(saved(tmp_path), SPEC)
    with pytest.raises(PretrainedError, match="policy p has other tensors than the pre-trained"):
        require_within(PolicyFile(SPEC, flat, 1, {}), tensors, "policy p")
    begin_with(SPEC, flat, tensors)
    require_within(PolicyFile(SPEC, flat, 1, {}), tensors, "policy p")


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path)
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(PretrainedError, match="checksum does not match"):
        load_pretrained(path, SPEC)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "policy.safetensors"
    path.write_bytes(b"nothing")
    with pytest.raises(PretrainedError, match="cannot be read"):
        load_pretrained(path, SPEC)
    with pytest.raises(PretrainedError, match="cannot be read"):
        load_pretrained(tmp_path / "missing", SPEC)
