"""Murmuration: the central learner, in torch."""

# Some commands begin in this package: `runtime` checks that all packages are ours.
import runtime as _runtime  # noqa: F401  # pyright: ignore[reportUnusedImport]
