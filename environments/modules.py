"""Import modules that register users' environments, but only if the user, and not just a file, names them."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import gymnasium

from milozero.helpers.errors import UserError
from milozero.helpers.import_path import search_repository_last

new_ids: dict[str, list[str]] = {}  # module → ids that it registered


class _Guard:
    """A finder that refuses to import a module or its parent packages, whose code runs too, from a folder."""

    def __init__(self, module: str, source: str, folder: str) -> None:
        self._module, self._source, self._folder = module, source, Path(folder)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Return what the other finders find; raise a UserError if it is in the folder."""
        if not f"{self._module}.".startswith(f"{name}."):
            return None
        specs = (finder.find_spec(name, path, target) for finder in sys.meta_path if finder is not self)
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is not None and spec.has_location and spec.origin and self._contains(Path(spec.origin)):
            raise UserError(
                f"{self._source}: {spec.origin} is in --data_dir={self._folder}; nothing is imported from there: "
                "move it elsewhere"
            )
        return spec

    def _contains(self, file: Path) -> bool:
        folders = (self._folder.absolute(), self._folder.resolve())
        return any(path.is_relative_to(each) for path in (file.absolute(), file.resolve()) for each in folders)


def import_module(module: str, source: str, data_dir: str) -> None:
    """Import the module that `source`, a flag with its value, names.

    Raises:
        UserError: if the module cannot be imported, or is in the data folder, which may contain other people's files.
    """
    registered_before = set(gymnasium.registry)
    with contextlib.suppress(OSError):  # the working directory was removed
        if (working_dir := os.getcwd()) not in sys.path:
            sys.path.append(working_dir)  # last, so that it shadows no other module
    search_repository_last()
    guard = _Guard(module, source, data_dir)
    sys.meta_path.insert(0, guard)
    try:
        importlib.import_module(module)
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # a user's module raises arbitrary exceptions
        hint = "; add the folder of its file to PYTHONPATH" if isinstance(error, ModuleNotFoundError) else ""
        if module.endswith(".py"):
            hint = f"; name the module, not its file: {Path(module).stem}:<id>"
        raise UserError(f"{source}: cannot import '{module}': {type(error).__name__}: {error}{hint}") from None
    finally:
        sys.meta_path.remove(guard)
    new_ids.setdefault(module, sorted(set(gymnasium.registry) - registered_before))


def remove_module(env_id: str) -> str:
    """Return an id without its module, which must have been imported.

    Raises:
        UserError: if it has not been imported, because only a file, such as a checkpoint, names it.
    """
    module, colon, name = env_id.rpartition(":")
    if colon and module not in sys.modules:
        raise UserError(
            f"environment '{env_id}' needs the module '{module}', which is imported only if you name it: "
            f"add --env_module={module} if you trust it (in Python, import it first)"
        )
    return name
