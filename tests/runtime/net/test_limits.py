"""What a process asks of the kernel first, in processes of their own."""

import subprocess
import sys

PROBE = """
import ctypes, os, resource, sys
from runtime.net.limits import begin_process
resource.setrlimit(resource.RLIMIT_NOFILE, (100, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
begin_process(keyed=sys.argv[1] == "keyed")
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
child = os.fork()
if child == 0:
    dumpable = ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)
    print(soft == hard, resource.getrlimit(resource.RLIMIT_CORE), dumpable, flush=True)
    os._exit(0)
os.waitpid(child, 0)
os.listdir("/proc/self/fd")  # our own descriptors stay in sight
"""


def probe(kind: str) -> str:
    run = subprocess.run(
        (sys.executable, "-c", PROBE, kind), capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def test_the_limit_of_open_files_is_raised_and_keys_stay_out_of_core_dumps() -> None:
    assert probe("keyed") == "True (0, 0) 0", "those forked from it as well"


def test_a_process_without_keys_may_dump_core_as_before() -> None:
    raised, *_, dumpable = probe("keyless").split()
    assert (raised, dumpable) == ("True", "1")


NO_DESCRIPTOR = """
import os, resource
from runtime.host.process_memory import pss_mb
from runtime.net.tcp_info import connections
pss_mb(os.getpid())  # whatever is imported late is imported now
connections()
descriptor = os.open("/dev/null", os.O_RDONLY)
resource.setrlimit(resource.RLIMIT_NOFILE, (descriptor + 1, descriptor + 1))
for look in (connections, lambda: pss_mb(os.getpid())):
    try:
        look()
    except OSError as error:
        print(error.errno)
"""


def test_a_look_without_descriptors_fails_and_does_not_say_that_there_is_nothing() -> None:
    run = subprocess.run(
        (sys.executable, "-c", NO_DESCRIPTOR), capture_output=True, text=True, timeout=60
    )
    assert run.stdout.split() == ["24", "24"], run.stderr  # EMFILE
