"""The policy with which the agents of a resumed run begin.

    policy.safetensors, if its version is the checkpoint's  ┐
    the checkpoint's own parameters, if it is not           ┴->  [P] parameters

Agents may act long before the learner speaks, and they say which version they act with: under that
number the parameters must be those of the earlier life. The file that `--policy` once named may be
gone by now and is not asked for. No torch: the launcher reads it.
"""

from pathlib import Path

import numpy as np

from agents.policy import PolicyFileError, PolicySpec, load_policy
from configs.arrays import FloatArray
from configs.run_files import POLICY
from learner.checkpoint_file import AVERAGE, ONLINE_POLICY, CheckpointContent, CheckpointError


def resumed_policy(folder: Path, checkpoint: CheckpointContent, spec: PolicySpec) -> FloatArray:
    """[P] parameters under the checkpoint's version.

    Between two published versions the checkpoint is a few updates ahead of what agents have had, so
    the published policy is preferred where it is whole.

    Raises:
        CheckpointError: the checkpoint has no policy of these dimensions.
    """
    try:
        published = load_policy(folder / POLICY)
    except PolicyFileError:
        return _trained_parameters(checkpoint, spec, f"checkpoint in {folder}")
    if published.version == checkpoint.progress.version and published.spec.layout == spec.layout:
        return published.flat
    return _trained_parameters(checkpoint, spec, f"checkpoint in {folder}")


def _trained_parameters(checkpoint: CheckpointContent, spec: PolicySpec, where: str) -> FloatArray:
    pieces: list[FloatArray] = []
    for name, shape in spec.layout:
        # torch numbers the layers of a GRU; see learner/network.py.
        saved = f"{name}{'_l0' * name.startswith('gru.')}"
        newest = checkpoint.arrays.get(f"{ONLINE_POLICY}{saved}")
        array = checkpoint.arrays.get(f"{AVERAGE}{saved}", newest)
        if array is None or array.shape != shape:
            found = "missing" if array is None else f"of shape {array.shape}"
            raise CheckpointError(f"{where}: policy {name} is {found}, this run asks for {shape}")
        pieces.append(array.astype(np.float32).ravel())
    flat = np.concatenate(pieces)
    if not np.isfinite(flat).all():
        raise CheckpointError(f"{where}: the policy holds values that are not finite")
    return flat
