"""The system tests: the slowest run first."""

import pytest

LONGEST = ("test_cluster_setup", "test_spawn_slurm", "test_torture", "test_compiled")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest, so that none of pytest's workers is left alone with one at the end."""
    first = [item for name in LONGEST for item in items if item.path.stem == name]
    if len({item.path.parent for item in items}) == 1:  # the other tiers are faster, and go first
        items[:] = [*first, *(item for item in items if item.path.stem not in LONGEST)]
