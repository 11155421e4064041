"""Dense networks with the parameters of sparse ones."""

from dataclasses import replace

import pytest
import yaml

from configs.load import preset_for
from configs.schema import LearnerConfig, SparseConfig
from learner.experience.episode import Dimensions
from learner.learner import Learner
from learner.sparse.accounting import account
from learner.sparse.matching import match, matches, tiny
from learner.sparse.tiny import main
from tests.learner_helpers import DIMENSIONS, make_config, make_flat, make_spec


def test_the_sizes_nearest_to_the_wanted_number_are_found() -> None:
    def count(sizes: dict[str, int]) -> int:
        return sizes["a"] * sizes["b"] + sizes["c"]

    # b may leave its proportion a / 2 by up to three, c keeps a / 4.
    for wanted in range(3, 130, 7):
        found = match({"a": 16, "b": 8, "c": 4}, count, wanted)
        best = min(
            abs(a * max(round(a / 2) + more, 1) + max(round(a / 4), 1) - wanted)
            for a in range(1, 17)
            for more in range(-3, 4)
        )
        assert found.parameters == count(found.sizes)
        assert abs(found.parameters - wanted) <= best + 1, wanted
    assert match({"a": 16, "b": 8, "c": 4}, count, 132).sizes == {"a": 16, "b": 8, "c": 4}


@pytest.mark.parametrize("algorithm", ["iql", "qmix", "wqmix", "facmac"])
def test_the_tiny_run_is_as_large_as_the_sparse_one(algorithm: str) -> None:
    env = Dimensions(num_agents=6, observation_dim=40, num_actions=9, state_dim=30)
    learner = LearnerConfig(device="cpu", algorithm=algorithm, central_embed=64)
    sparse = replace(
        make_config(learner=learner),
        network=preset_for("battle").network,
        sparse=SparseConfig(method="rigl", sparsity=0.9, policy=0.9),
    )
    found = matches(sparse, env)
    for part, one in found.items():
        assert one.parameters == pytest.approx(one.wanted, rel=0.05), part
    dense = tiny(sparse, found)
    assert dense.sparse.method == "none"
    parts = {"iql": 1, "qmix": 2, "wqmix": 4, "facmac": 3}
    assert len(found) == parts[algorithm]
    assert dense.network.hidden < sparse.network.hidden / 2
    assert (dense.learner.mixing_embed < sparse.learner.mixing_embed) == (algorithm != "iql")


def test_what_is_wanted_is_what_the_sparse_learner_has() -> None:
    run = replace(make_config(), sparse=SparseConfig(method="static", sparsity=0.6))
    spec = make_spec()
    sizes = account(Learner(run, spec, DIMENSIONS, make_flat(spec)), run)
    assert 2 * matches(run, DIMENSIONS)["policy"].wanted == sizes["model_size"]


def test_the_command_prints_a_preset(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--env", "relay", "--agents", "16", "--sparse.method", "set"]
    assert main([*options, "--sparse.sparsity", "0.8"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("# policy: ")
    assert set(yaml.safe_load(printed)) == {"network"}
    with pytest.raises(SystemExit, match="2"):
        main(["--env", "relay"])
    assert "sparse.method is none" in capsys.readouterr().err
