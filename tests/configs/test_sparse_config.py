"""The section `sparse` of a configuration."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from configs.load import ConfigError, dump_run_config, load_run_config, parse_run_config
from configs.schema import SparseConfig


def test_names_of_dense_layers_come_from_files_and_flags_and_survive_a_dump(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text("sparse: {method: rigl, dense: [scorer, q_out]}\n")
    config = load_run_config(["--config", str(file)])
    assert config.sparse == SparseConfig(method="rigl", dense=("scorer", "q_out"))
    assert parse_run_config(dump_run_config(config)) == config
    assert load_run_config(["--sparse.dense", "messages", "gru"]).sparse.dense == (
        "messages",
        "gru",
    )


@pytest.mark.parametrize("value", ["scorer", "[1]", "{a: b}", "[scorer, encodr]"])
def test_what_is_not_a_list_of_layers_is_refused(value: str) -> None:
    with pytest.raises(
        ConfigError, match=r"sparse\.dense must be a list of scorer, messages, .* got"
    ):
        parse_run_config(f"sparse: {{dense: {value}}}\n")


def test_a_flag_that_names_no_layer_is_refused() -> None:
    with pytest.raises(ConfigError, match="encodr"):
        load_run_config(["--sparse.dense", "encodr"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SparseConfig(sparsity=1.0), "sparse.sparsity must be in [0, 1)"),
        (lambda: SparseConfig(mixer=-0.5), "sparse.mixer must be in [0, 1), or -1"),
        (lambda: SparseConfig(policy=1.0), "sparse.policy must be in [0, 1), or -1"),
        (lambda: SparseConfig(fraction=1.1), "sparse.fraction"),
        (lambda: SparseConfig(period=0), "sparse.period"),
        (lambda: SparseConfig(end=-1), "sparse.end"),
        (lambda: SparseConfig(group=0), "sparse.group"),
        (lambda: SparseConfig(pattern="n:m", group=4), "keeps at least one weight of a group"),
        (lambda: SparseConfig(pattern="n:m", sparsity=0.5, policy=0.95), "sparsity 0.95"),
        (lambda: SparseConfig(pattern="n:m", policy=0.5), "sparsity 0.9"),
    ],
)
def test_values_out_of_range_are_refused(make: Callable[[], SparseConfig], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


def test_of_a_group_half_a_weight_is_one_and_what_is_not_used_is_not_looked_at() -> None:
    SparseConfig(pattern="n:m", sparsity=0.9, group=5)
    SparseConfig(pattern="n:m", sparsity=0.9, group=4, policy=0.5, mixer=0.5)
