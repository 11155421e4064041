"""What can go wrong at run time, as a tree.

* RuntimeFault
  + WireFormatError
  + SetupError
  + BodyError

What a command prints as one line is a UserError (configs/errors.py). A process that dies is no
exception but an event of its supervisor.
"""

from configs.errors import UserError


class RuntimeFault(Exception):
    """Base of everything the runtime reports about itself."""


class WireFormatError(RuntimeFault):
    """A frame is not what its kind promises; `reason` is the label it is counted under."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


class SetupError(RuntimeFault, UserError):
    """The run cannot start as asked; nothing was started (exit code 2)."""


class BodyError(RuntimeFault):
    """An agent does not answer its body, or is not the one that was meant (runtime/body.py)."""
