"""Skipped tests fail CI, but for those that need a GPU."""

import pytest

TESTS = """
import pytest

def test_runs():
    pass

@pytest.mark.skipif({missing}, reason="there is no tmux")
def test_needs_tmux():
    pass

@pytest.mark.gpu
def test_needs_a_gpu():
    pass
"""


@pytest.mark.parametrize(
    ("workers", "ci", "missing", "code"),
    [((), "true", True, 1), (("-n1",), "true", True, 1), ((), "true", False, 0), ((), "", True, 0)],
)
def test_skipped_test_fails_ci_and_nobody_else(pytester, monkeypatch, workers, ci, missing, code):
    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    pytester.makepyfile(TESTS.format(missing=missing))
    result = pytester.runpytest_inprocess("-p", "tests.support.skips", "-o", "markers=gpu", *workers)
    assert result.ret == code
    assert ("test_needs_tmux: Skipped: there is no tmux" in result.stdout.str()) == bool(code)
