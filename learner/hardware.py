"""What the learner computes on: device, threads, memory."""

import ctypes
import os

import torch

from configs.cpus import usable_cpus
from configs.schema import LearnerConfig
from configs.schema.choices import Precision
from learner.kernels.rounded import round_factors_to
from learner.ranks import launched


def prepare(config: LearnerConfig) -> None:
    """Set up torch and memory for a process that trains."""
    _keep_memory()
    torch.set_num_threads(num_threads(config))
    set_precision(config.precision)


def set_precision(precision: Precision) -> None:
    """What factors of matrix products are rounded to in this process; tf32 is for CUDA only."""
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    # cuDNN, whose GRU a GPU takes, would use TF32 unasked.
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    round_factors_to(torch.bfloat16 if precision == "bfloat16" else torch.float32)


def num_threads(config: LearnerConfig) -> int:
    """Torch threads of one rank. By default they have half of the cores that we may use: threads
    that wait for a core which an agent has are slower than no threads at all.
    """
    threads = config.threads or max(usable_cpus() // 2, 1)
    return max(threads // config.ranks, 1)


def resolve_device(config: LearnerConfig) -> torch.device:
    """Where to train; auto takes CUDA if there is one, and each rank a GPU of its own."""
    kind = config.device
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    if kind == "cuda" and launched():
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
        return device
    return torch.device(kind)


def _keep_memory() -> None:
    """Have glibc keep freed memory instead of giving it back to the kernel after each update.

    Every update asks for the same gigabytes again, and first touching a page costs more than the
    arithmetic on it (notes: 10.5 s with, 5.8 s without, for Battle with 100 agents).
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # glibc only
        trim_threshold, top_pad, mmap_threshold, arena_max = -1, -2, -3, -8  # of malloc.h
        libc.mallopt(mmap_threshold, 1 << 30)
        libc.mallopt(trim_threshold, (1 << 31) - 1)
        libc.mallopt(top_pad, 1 << 28)
        libc.mallopt(arena_max, 1)  # the arenas of further threads keep nothing
