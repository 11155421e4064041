"""Mistakes of a person, which a command prints as one line.

* UserError
  + ConfigError (configs/load.py), OptionsError (configs/options.py), ExtensionError
    (configs/extensions.py)
  + PolicyFileError (agents/policy.py), CheckpointError (learner/checkpoint_file.py)
  + SetupError (runtime/net/errors.py)
"""


class UserError(Exception):
    """What was asked for cannot be done; the message names the thing, the value and the way out."""
