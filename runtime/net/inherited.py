"""A descriptor that a child process is handed with its setup.

It travels where the setup is packed (runtime/terminal/processes.py), and has another number there.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Inherited:
    """An open file of the process that holds this."""

    descriptor: int
