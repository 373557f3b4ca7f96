"""In CI, a skipped test fails the run unless it needs a GPU."""

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

@pytest.mark.renders
def test_renders():
    pass
"""


@pytest.mark.parametrize(
    ("workers", "ci", "missing", "renderer", "code"),
    [
        ((), "true", True, True, 1),
        (("-n1",), "true", True, True, 1),
        ((), "true", False, True, 0),
        ((), "true", False, False, 1),
        ((), "", True, False, 0),
    ],
)
def test_skipped_test_fails_only_ci(pytester, monkeypatch, workers, ci, missing, renderer, code):
    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(
        "ctypes.util.find_library", lambda name: "libEGL.so.1" if renderer and name == "EGL" else None
    )
    pytester.makepyfile(TESTS.format(missing=missing))
    result = pytester.runpytest_inprocess("-p", "tests.support.skips", "-o", "markers=gpu\nrenders", *workers)
    assert result.ret == code
    assert ("test_needs_tmux: Skipped: there is no tmux" in result.stdout.str()) == (bool(ci) and missing)
    assert ("test_renders: Skipped: apt install libegl1" in result.stdout.str()) == (bool(ci) and not renderer)
