"""Let users' modules take precedence over ours of the same name. Imports only the standard library."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent  # of this repository


def search_repository_last() -> None:
    """Search this repository after all other folders of the import path.

    Python searches a script's folder first, so the repository's ``helpers`` and ``environments``, which we import as
    ``milozero.helpers`` and ``milozero.environments``, would hide users' modules of these names.
    """
    ours = [path for path in sys.path if _is_root(path)]  # processes that an environment starts inherit the order
    sys.path[:] = [path for path in sys.path if path not in ours] + ours
    if _RepositoryLast not in sys.meta_path:
        sys.meta_path.insert(sys.meta_path.index(PathFinder), _RepositoryLast)


class _RepositoryLast:
    """Finds top-level modules outside this repository.

    Python itself prefers any package with an ``__init__.py``, wherever it is, to one without.
    """

    @classmethod
    def find_spec(cls, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if path is not None:
            return None
        return PathFinder.find_spec(name, [folder for folder in sys.path if not _is_root(folder)])


@functools.cache
def _is_root(path: str) -> bool:
    with contextlib.suppress(OSError):
        return os.path.samefile(path or os.curdir, ROOT)
    return False
