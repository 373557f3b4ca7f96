"""A pytest plugin: if the variable CI is set, a skipped test fails the run unless it is marked ``gpu``."""

from __future__ import annotations

import ctypes.util
import os

import pytest

SKIPPED = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Register the plugin that lists the skipped tests."""
    config.stash[SKIPPED] = []
    config.pluginmanager.register(_Recorder(config.stash[SKIPPED]))


class _Recorder:
    """Records skipped tests; with pytest-xdist, in the controller process."""

    def __init__(self, skipped: list[str]) -> None:
        self._skipped = skipped

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail") and "gpu" not in report.keywords:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
            self._skipped.append(f"{report.nodeid}: {reason}")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self._skipped.append(report.nodeid)


def has_gpu() -> bool:
    """Return whether torch sees a GPU."""
    import torch

    return torch.cuda.is_available()


def has_renderer() -> bool:
    """Return whether a library that renders without a display is installed."""
    return any(ctypes.util.find_library(name) for name in ("EGL", "OSMesa"))


NEEDS = {"gpu": (has_gpu, "there is no GPU"), "renders": (has_renderer, "apt install libegl1 libegl-mesa0")}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests whose requirements this machine does not meet."""
    for marker, (is_available, reason) in NEEDS.items():
        marked = [item for item in items if item.get_closest_marker(marker)]
        if marked and not is_available():
            for item in marked:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run in CI if a test was skipped."""
    if os.environ.get("CI") and session.config.stash[SKIPPED] and not hasattr(session.config, "workerinput"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """List the skipped tests that CI must run."""
    if os.environ.get("CI") and config.stash[SKIPPED]:
        terminalreporter.section("skipped, but CI must run them", red=True)
        for line in config.stash[SKIPPED]:
            terminalreporter.line(line)
