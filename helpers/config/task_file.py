"""Task files: settings in YAML, in sections, some of them of single environments.

meta:
  task: train
  algo: ppo
hyper_parameters:
  log_std: -0.5
environments:
  Ant:
    log_std: -1
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from milozero.helpers.errors import UserError, did_you_mean

SCALAR_TAGS = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "timestamp"))
LIST_TAG = "tag:yaml.org,2002:seq"
MAX_FILE_BYTES = 64 * 1024  # bytes of a task file, which is a page or two
ENVIRONMENTS = "environments"  # the section whose sections are each of one environment
# Settings that no such section can have: they say which run it is, or are the same for the whole of a study.
OF_ALL = {"env_id", "task", "algo", "config", "benchmark", "seed", "uuid", "resume", "data_dir"}


@dataclass(frozen=True)
class TaskFile:
    """What a task file says: name → value as text, None, or where it is a list of choices a list of text."""

    settings: dict[str, Any]
    sections: dict[str, dict[str, Any]]  # environment, with a version or without → what it has instead or besides

    def of(self, env_id: str) -> dict[str, Any]:
        """Return the settings of an environment, by its full id; what is said of its version wins."""
        plain = env_id.rpartition("-v")[0]
        return self.settings | self.sections.get(plain, {}) | self.sections.get(env_id, {})


def read_bytes(path: str) -> bytes:
    """Return a small file that a user wrote.

    Raises:
        UserError: where it cannot be read, or is too large to be one.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot read the config file '{path}': {reason}") from None
    if len(content) > MAX_FILE_BYTES:
        raise UserError(f"'{path}' is no task file: it is larger than {MAX_FILE_BYTES // 1024} KiB")
    return content


def read_yaml_lines(path: str) -> list[tuple[Any, Any]]:
    """Return the (name, value) nodes of a YAML file's outermost mapping."""
    import yaml

    try:
        root = yaml.compose(read_bytes(path), Loader=yaml.SafeLoader)
    except UserError:
        raise
    except RecursionError:
        raise UserError(f"'{path}' is nested too deeply") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # the latter two: escapes of no character
        raise UserError(f"'{path}' is not valid YAML: {' '.join(str(error).split())}") from None
    if root is None:
        return []
    if not isinstance(root, yaml.MappingNode):
        raise UserError(f"'{path}' must hold 'name: value' lines")
    return list(root.value)


def read_yaml(
    path: str, known: Iterable[str], check_environment: Callable[[str], None], *, lists: bool = False
) -> TaskFile:
    """Return the settings in a YAML task file, its sections (meta, resources, ...) merged into one mapping.

    Only the section ``environments`` stays apart, which has a section for each of some environments.

    The values are the text as it stands, for `coerce` to read by the type that was declared. What YAML would make
    of it is another thing where it sees a date, an octal number, or the base-60 number of ``1:30:00``. Where `lists`
    are allowed, a list of such values is one of text: the choices of a sweep.

    Args:
        path: of the file.
        known: names of settings.
        check_environment: raises UserError for the name of a section that is no environment's.
        lists: whether a setting may be a list of choices.

    Raises:
        UserError: for a file that cannot be read, a key that is no setting, with the nearest right one, or a section
            of no environment.
    """
    known = set(known)
    flat: dict[str, Any] = {}
    sections: dict[str, dict[str, Any]] = {}
    for key, value in read_yaml_lines(path):
        if key.value == ENVIRONMENTS:
            for name, section in _mapping(f"{path}: {ENVIRONMENTS}", value):
                _check_environment(path, name, check_environment)
                if name.value in sections:
                    raise UserError(f"{path}: {ENVIRONMENTS}: {name.value} stands twice")
                where = f"{path}: {ENVIRONMENTS}: {name.value}"
                own = _settings(where, _mapping(where, section), known, {}, lists=True)
                for setting in own:
                    if setting in OF_ALL or isinstance(own[setting], list):
                        kind = "is the same for all environments" if setting in OF_ALL else "must be one value here"
                        raise UserError(f"{where}: {setting} {kind}")
                sections[name.value] = own
        else:
            _settings(path, value.value if value.id == "mapping" else [(key, value)], known, flat, lists=lists)
    return TaskFile(flat, sections)


def _mapping(where: str, node: Any) -> list[tuple[Any, Any]]:
    """Return the (name, value) nodes of a section; none of an empty one."""
    if node.id == "mapping":
        return list(node.value)
    if node.tag.endswith(":null"):
        return []
    raise UserError(f"{where} must hold 'name: value' lines")


def _check_environment(path: str, name: Any, check: Callable[[str], None]) -> None:
    """Refuse a section whose `name`, a node, is that of no environment."""
    try:
        check(name.value if name.id == "scalar" else "?")
    except UserError as error:
        raise UserError(f"{path}: {ENVIRONMENTS}: {error}") from None


def _settings(
    where: str, lines: Iterable[tuple[Any, Any]], known: set[str], flat: dict[str, Any], *, lists: bool
) -> dict[str, Any]:
    """Add the settings of a section's (name, value) nodes to `flat`, and return it."""
    for name_node, setting in lines:
        name = name_node.value if name_node.id == "scalar" else "?"
        if name not in known:
            raise UserError(f"unknown parameter '{name}' in {where}{did_you_mean(name, known)}")
        if name in flat:
            raise UserError(f"parameter '{name}' stands twice in {where}")
        choices = setting.value if setting.tag == LIST_TAG else [setting]
        if setting.tag == LIST_TAG and not lists:
            raise UserError(f"{where}: {name} is a list of choices, which spawner.py --sweep draws from")
        if not choices or any(choice.tag not in SCALAR_TAGS for choice in choices):
            raise UserError(f"{where}: {name} must be one number or text")
        values = [None if choice.tag.endswith(":null") else choice.value for choice in choices]
        flat[name] = values if setting.tag == LIST_TAG else values[0]
    return flat
