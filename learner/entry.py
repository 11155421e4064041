"""The door to the learner's process.

The launcher must not import torch: it knows this file, and the new process imports
`learner.process` itself.
"""

import logging
import os
import sys

from learner.setup import LearnerSetup
from runtime.net.limits import begin_process


def main(setup: LearnerSetup) -> None:
    """Run the learner until it is told to stop. Entry point of the process."""
    begin_process(keyed=setup.keyring is not None)
    if setup.config.learner.ranks > 1:
        from learner import torchrun

        torchrun.main(setup)
    else:
        from learner import process

        process.main(setup)
        # Taking torch apart again would keep the run waiting for a third of a second, for nothing.
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
