"""Whether a package is there that an environment needs, asked without importing it."""

from importlib.util import find_spec


def check_installed(environment: str, package: str, extra: str) -> None:
    """Look for a package.

    Args:
        extra: optional dependencies of ours that bring it (pyproject.toml).

    Raises:
        ValueError: it is not installed.
    """
    if find_spec(package) is None:
        raise ValueError(
            f"{environment} needs the package {package}, which is not installed: "
            f'install it with pip install -e ".[{extra}]" in the folder of Murmuration'
        )
