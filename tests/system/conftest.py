"""Run the slowest system tests first."""

import pytest

LONGEST = ("test_cluster_setup", "test_spawn_slurm", "test_torture", "test_compiled")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the longest tests, so that no pytest worker is still running one at the end."""
    first = [item for name in LONGEST for item in items if item.path.stem == name]
    if len({item.path.parent for item in items}) == 1:  # otherwise the faster tiers run first
        items[:] = [*first, *(item for item in items if item.path.stem not in LONGEST)]
