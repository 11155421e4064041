"""Policies that come with the project.

    "shipped" (policy of an environment) | "idqn" (opponent in Battle) -> path of a safetensors file

docs/results says how each was trained and what it achieves.
"""

from pathlib import Path

SHIPPED = "shipped"
"""What a policy option says for the policy that comes with the environment."""

_FOLDER = Path(__file__).parent / "policies"


def policy_path(policy: str, env_name: str) -> Path:
    """The file that a policy option means.

    Raises:
        ValueError: no policy is shipped for this environment.
    """
    if policy != SHIPPED:
        return Path(policy)
    path = _FOLDER / f"{env_name}.safetensors"
    if not path.is_file():
        raise ValueError(f"no policy is shipped for {env_name}: give the path of a policy file")
    return path


def idqn_path() -> Path:
    """The opponent that was trained by self-play (python -m learner.opponent)."""
    return _FOLDER / "battle-idqn.safetensors"
