from dataclasses import replace

import numpy as np

from agents.policy import views
from agents.rehearsal import stays_finite
from tests.agents_helpers import NUM_AGENTS, SPEC, make_flat


def test_a_policy_that_runs_passes() -> None:
    assert stays_finite(SPEC, make_flat(), NUM_AGENTS)


def test_finite_parameters_whose_products_are_not_are_found() -> None:
    flat = make_flat()
    views(SPEC, flat)["q_out.weight"][...] = 3e38
    assert np.isfinite(flat).all()
    assert not stays_finite(SPEC, flat, NUM_AGENTS)


def test_each_of_several_networks_is_tried_out() -> None:
    two = replace(SPEC, policies=2)
    well, ill = make_flat(), make_flat()
    views(SPEC, ill)["q_out.weight"][...] = 3e38
    assert stays_finite(two, np.concatenate([well, well]), NUM_AGENTS)
    assert not stays_finite(two, np.concatenate([well, ill]), NUM_AGENTS)
