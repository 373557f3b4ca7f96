"""What an unfinished command line says."""

import pytest

from milozero.experiment.settings import TASKS
from milozero.helpers.config.completion import find_value


@pytest.mark.parametrize(
    ("line", "task"),
    [
        ("main.py --task=eval --re", "eval"),
        ("main.py --task eval --re", "eval"),
        ("main.py --task=train --task=eval ", "eval"),
        ("main.py --task=ev", None),  # not yet complete
        ("main.py --task=eval", None),
        ("main.py --task=nonsense --re", None),
        ("main.py --subtask=eval --re", None),
    ],
)
def test_task_is_found_in_an_unfinished_line(line, task):
    assert find_value(line, "task", TASKS) == task
