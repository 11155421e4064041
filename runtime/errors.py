"""What can go wrong at run time, as a tree.

* RuntimeFault
  + TransportError
    - PeerTimeout
    - WireFormatError
  + ProcessDied
  + StartupError
  + SetupError
"""


class RuntimeFault(Exception):
    """Base of everything the runtime reports about itself."""


class TransportError(RuntimeFault):
    """Moving bytes between processes failed."""


class PeerTimeout(TransportError):
    """A peer did not answer by its deadline."""


class WireFormatError(TransportError):
    """A frame is not what its kind promises; `reason` is the label it is counted under."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


class ProcessDied(RuntimeFault):
    """A process that the run cannot do without has ended."""


class StartupError(RuntimeFault):
    """Processes were missing when the start-up deadline passed."""


class SetupError(RuntimeFault):
    """The run cannot start as asked; nothing was started (exit code 2)."""
