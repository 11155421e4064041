"""Helpers with which the schema declares its fields."""

import tyro

AS_SPARSITY = (-1.0, "for sparse.sparsity")


def short(name: str) -> object:
    """A nested field whose flag keeps its short name: --env instead of --env.name."""
    return tyro.conf.arg(name=name, prefix_name=False)


def require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
