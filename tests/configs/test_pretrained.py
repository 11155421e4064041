"""Options of what was trained beforehand: what they go with, and when they do nothing."""

from collections.abc import Sequence

import pytest

from configs.load import ConfigError, load_run_config
from runtime import launch


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--sparse.method", "rigl"), "sparse.method rigl would cut links of what is pretrained"),
    ],
)
def test_what_it_does_not_go_with_is_refused(words: Sequence[str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load_run_config(["--pretrained", "b", *words])


def test_without_a_file_nothing_is_frozen_or_tuned() -> None:
    remarks: list[str] = []
    load_run_config(["--learner.pretrained", "tuned"], remark=remarks.append)
    assert remarks == [
        "learner.pretrained has no effect: nothing was trained beforehand (no pretrained)"
    ]
    load_run_config(["--learner.pretrained", "tuned", "--pretrained", "a"], remark=remarks.append)
    assert len(remarks) == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--comm", "nvif"), "pre-trained file nowhere cannot be read"),
        (("--comm", "full"), "--comm full has nothing that is pre-trained"),
    ],
)
def test_a_run_that_cannot_begin_with_it_is_not_started(
    words: Sequence[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        launch.main(["--env", "relay", "--agents", "4", *words, "--pretrained", "nowhere"])
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line
