"""The command of learner/studies/protocol.py under its short name."""

from runtime.terminal.command import guard, run_command

if __name__ == "__main__":
    guard()  # before the imports that take long

from learner.studies.protocol import main

__all__ = ["main"]

if __name__ == "__main__":
    run_command(main)
