"""Commands as the user gives them, called in the test's own process: a third of a second each, not three."""

import pytest


@pytest.fixture
def milozero(in_process):
    """Call main.py in this process; returns the result as that of a process."""
    return in_process
