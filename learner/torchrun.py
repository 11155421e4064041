"""A learner of several ranks under torchrun's agent.

    launcher ─▶ this process: the agent ─▶ rank 0: learner/process.py
                                        ─▶ rank 1, 2, …: learner/follower.py

A rank that fails takes the others with it, and this process with them: the launcher sees that and
starts all of them again, from the checkpoint.
"""

import signal
import uuid

import setproctitle
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from learner import process
from learner.setup import LearnerSetup
from runtime.terminal.processes import Parcel


def main(setup: LearnerSetup) -> None:
    """Run all ranks until rank 0 has ended. Entry point of the process."""
    setproctitle.setproctitle("murmuration: learner's agent")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches rank 0 as the launcher's Stop
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=setup.config.learner.ranks,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",
        max_restarts=0,  # restarting is the launcher's business
        monitor_interval=0.5,
        signals_to_handle="SIGTERM",
    )
    parcel = Parcel(setup)
    try:
        elastic_launch(config, _begin)(parcel)
    except SignalException:  # told to stop; the ranks were told as well
        raise SystemExit(0) from None
    finally:
        parcel.close()


def _begin(parcel: Parcel) -> None:
    """The body of a rank: torchrun's agent must not wait until it has read its setup, either."""
    process.main(parcel.open())
