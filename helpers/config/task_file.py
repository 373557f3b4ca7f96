"""Task files: settings in YAML, grouped into sections; ``environments`` overrides them per environment.

meta:
  task: train
  algo: ppo
hyper_parameters:
  log_std_init: -0.5
environments:
  Ant:
    log_std_init: -1
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from milozero.helpers.errors import UserError, did_you_mean
from milozero.helpers.files import open_regular

SCALAR_TAGS = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "timestamp"))
LIST_TAG = "tag:yaml.org,2002:seq"
MAX_FILE_BYTES = 64 * 1024  # a task file has a page or two
ENVIRONMENTS = "environments"  # the section with one subsection per environment
# Settings that subsections cannot override, because they identify the run or a study shares them.
SHARED_SETTINGS = {"env_id", "task", "algo", "config", "benchmark", "seed", "uuid", "resume", "data_dir"}

RUN_FIELD = "run_id"  # only in the config.yaml of a run
# What a run's config.yaml says of that run alone (where it is stored, what it ran with), and modules, which only the
# user may name
NOT_REPEATED = re.compile(
    "uuid|resume|config|data_dir|env_module|run_id|command|git_sha|compiled|device|[a-z0-9_]+_version"
)


@dataclass(frozen=True)
class TaskFile:
    """The content of a task file: name → text, None, or a list of text (the choices of a sweep)."""

    settings: dict[str, Any]
    sections: dict[str, dict[str, Any]]  # environment, with or without version → overrides
    is_run: bool = False  # whether it is the ``config.yaml`` of a run, which may be another user's

    def names(self) -> list[str]:
        """Return the names of all settings in the file."""
        return [name for section in (self.settings, *self.sections.values()) for name in section]

    def for_env(self, env_id: str) -> dict[str, Any]:
        """Return the settings for an environment's full id. The section of its version takes precedence."""
        plain = env_id.rpartition("-v")[0]
        return self.settings | self.sections.get(plain, {}) | self.sections.get(env_id, {})


def read_bytes(path: str) -> bytes:
    """Return the content of a small configuration file.

    Raises:
        UserError: if the file cannot be read or is too large.
    """
    try:
        is_pipe = path.startswith(("/dev/", "/proc/"))  # ``--config=<(...)``
        with open(path, "rb") if is_pipe else open_regular(path) as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot read the config file '{path}': {reason}") from None
    if len(content) > MAX_FILE_BYTES:
        raise UserError(f"'{path}' is not a task file: it is larger than {MAX_FILE_BYTES // 1024} KiB")
    return content


def read_yaml_lines(path: str) -> list[tuple[Any, Any]]:
    """Return the (name, value) nodes at the top level of a YAML file."""
    import yaml

    content = read_bytes(path)
    try:
        root = yaml.compose(content, Loader=yaml.SafeLoader)
    except RecursionError:
        raise UserError(f"'{path}' is nested too deeply") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # the latter two: invalid character escapes
        raise UserError(f"'{path}' is not valid YAML: {' '.join(str(error).split())}") from None
    if root is None:
        return []
    if not isinstance(root, yaml.MappingNode):
        raise UserError(f"'{path}' must contain 'name: value' lines")
    return list(root.value)


def read_yaml(
    path: str, known: Iterable[str], check_environment: Callable[[str], None], *, lists: bool = False
) -> TaskFile:
    """Read a YAML task file. Its sections (meta, resources, ...) are merged, except for ``environments``.

    The ``config.yaml`` of a run is a task file that repeats it, under a new name and in this user's data folder.

    Values stay text, which `coerce` parses by the declared type: YAML itself would convert dates, octal numbers and
    ``1:30:00``, a base-60 number.

    Args:
        path: of the file.
        known: names of all settings.
        check_environment: raises UserError if a name is not that of an environment.
        lists: whether a setting may be a list, the choices of a sweep.

    Raises:
        UserError: if the file cannot be read, or names an unknown setting or environment.
    """
    known = set(known)
    flat: dict[str, Any] = {}
    sections: dict[str, dict[str, Any]] = {}
    lines = read_yaml_lines(path)
    is_run = any(key.value == RUN_FIELD for key, _ in lines)
    if is_run:
        lines = [line for line in lines if not NOT_REPEATED.fullmatch(str(line[0].value))]
    for key, value in lines:
        if key.value == ENVIRONMENTS:
            location = f"{path}: {ENVIRONMENTS}"
            for name, section in _read_mapping(location, value):
                _check_environment(location, name, check_environment)
                if name.value in sections:
                    raise UserError(f"{location}: duplicate section '{name.value}'")
                sections[name.value] = _read_overrides(f"{location}: {name.value}", section, known)
        else:
            _read_settings(path, value.value if value.id == "mapping" else [(key, value)], known, flat, lists=lists)
    return TaskFile(flat, sections, is_run)


def _read_mapping(location: str, node: Any) -> list[tuple[Any, Any]]:
    """Return the (name, value) nodes of a section, which may be empty."""
    if node.id == "mapping":
        return list(node.value)
    if node.tag.endswith(":null"):
        return []
    raise UserError(f"{location} must contain 'name: value' lines")


def _check_environment(location: str, name: Any, check: Callable[[str], None]) -> None:
    """Check that a section's `name`, a YAML node, is that of an environment."""
    try:
        check(name.value if name.id == "scalar" else "?")
    except UserError as error:
        raise UserError(f"{location}: {error}") from None


def _read_overrides(location: str, section: Any, known: set[str]) -> dict[str, Any]:
    """Return the settings in the section of an environment."""
    overrides = _read_settings(location, _read_mapping(location, section), known, {}, lists=True)
    for name, value in overrides.items():
        if name in SHARED_SETTINGS:
            raise UserError(f"{location}: {name} must be the same for all environments")
        if isinstance(value, list):
            raise UserError(f"{location}: {name} must be one value, not a list")
    return overrides


def _read_settings(
    location: str, lines: Iterable[tuple[Any, Any]], known: set[str], flat: dict[str, Any], *, lists: bool
) -> dict[str, Any]:
    """Add the settings of a section's (name, value) nodes to `flat` and return it."""
    for name_node, setting in lines:
        name = name_node.value if name_node.id == "scalar" else "?"
        if name not in known:
            raise UserError(f"unknown parameter '{name}' in {location}{did_you_mean(name, known)}")
        if name in flat:
            raise UserError(f"duplicate parameter '{name}' in {location}")
        choices = setting.value if setting.tag == LIST_TAG else [setting]
        if setting.tag == LIST_TAG and not lists:
            raise UserError(f"{location}: {name} is a list of choices; only spawner.py --sweep can draw from it")
        if not choices or any(choice.tag not in SCALAR_TAGS for choice in choices):
            raise UserError(f"{location}: {name} must be one number or text")
        values = [None if choice.tag.endswith(":null") else choice.value for choice in choices]
        flat[name] = values if setting.tag == LIST_TAG else values[0]
    return flat
