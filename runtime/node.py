"""The command of one host: `python -m runtime.node --bundle FOLDER` (runtime/host/join.py)."""

from runtime.terminal.command import guard, run_command

if __name__ == "__main__":
    guard()  # before the imports that take long

from runtime.host.join import main

__all__ = ["main"]

if __name__ == "__main__":
    run_command(main)
