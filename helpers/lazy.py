"""Modules that take long to import, imported when they are first used."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Any, cast


class _Lazy:
    """Stands in a module's globals for another module, and makes way for it at the first use.

    So `importlib.util.LazyLoader` does as well, but it puts its half-loaded modules where every other import finds
    them, which not every version of Python and torch bears.
    """

    def __init__(self, name: str, place: dict[str, Any]) -> None:
        self._name, self._place = name, place

    def __getattr__(self, attribute: str) -> Any:
        module = importlib.import_module(self._name)
        for name, value in list(self._place.items()):
            if value is self:
                self._place[name] = module
        return getattr(module, attribute)


def lazy_import(name: str) -> ModuleType:
    """Return what stands for module `name` among the caller's globals until one of its attributes is used.

    Raises:
        ModuleNotFoundError: if there is no such module.
    """
    if name in sys.modules:
        return sys.modules[name]
    if importlib.util.find_spec(name) is None:
        raise ModuleNotFoundError(f"No module named '{name}'", name=name)
    return cast("ModuleType", _Lazy(name, sys._getframe(1).f_globals))
