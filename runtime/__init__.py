"""Murmuration: the processes of a run, what they say to each other, and the commands."""

import sys

from runtime.own_packages import ForeignPackageError, check

try:
    check()
except ForeignPackageError as error:
    # While Python looks for the module of `python -m`, it calls the program "-m".
    if sys.argv[0].rpartition("/")[2] not in ("-m", "murmuration"):
        raise
    print(f"error: {error}", file=sys.stderr)
    raise SystemExit(2) from None
