"""A training as anybody starts one, from its beginning to its end."""

import tempfile
from pathlib import Path
from typing import Any

from tests.process.runs import Launched

_LIMIT_S = 3600.0


def trained(*words: str) -> dict[str, Any]:
    """Its summary.json.

    Args:
        words: arguments of runtime.launch.

    Raises:
        RuntimeError: it ended in another way; with the end of what it said.
    """
    with (
        tempfile.TemporaryDirectory(prefix="benchmark-") as scratch,
        Launched(Path(scratch), *words) as run,
    ):
        if run.finish(_LIMIT_S) != 0:
            raise RuntimeError(run.output.read_text()[-1500:])
        return run.summary()
