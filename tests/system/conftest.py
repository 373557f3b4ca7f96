"""What a machine may lack, or what takes long."""

import pytest

LONGEST = ("test_cluster_setup", "test_spawn_slurm", "test_torture", "test_compiled")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest, so that none of pytest's workers is left alone with one at the end."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))
