"""Names that Weights & Biases takes, and paths of its runs."""

from __future__ import annotations

import re
from urllib.parse import unquote

from milozero.helpers.errors import UserError

RUN_PATH = re.compile(r"/?([^/\s]+)/([^/\s]+)/(?:runs/)?([^/]+)/?")
# Of a run's page, whichever part of it is looked at; a server may be anywhere under its address.
RUN_PAGE = re.compile(r"https?://[^/]+/(?:[^?#]*?/)??([^/?#]+)/([^/?#]+)/runs/([^/?#]+)(?:[/?#].*)?")
MAX_NAME_CHARS = 128  # characters of what W&B names
NOT_IN_A_NAME = "/\\#?%:"  # the client refuses them in the name of a project


def usable_name(name: str) -> None:
    """Refuse a project or an entity that Weights & Biases would not take.

    Raises:
        UserError: saying why.
    """
    if len(name) > MAX_NAME_CHARS:
        raise UserError(f"Weights & Biases takes names of at most {MAX_NAME_CHARS} characters")
    if bad := [character for character in NOT_IN_A_NAME if character in name]:
        raise UserError(f"Weights & Biases takes no {bad[0]} in a name")


def parse_run_path(path: str) -> tuple[str, str, str]:
    """Return user, project and run of a ``--wandb_run_path``; the run by its name or its id.

    Raises:
        UserError: where it is no such path.
    """
    page = RUN_PAGE.fullmatch(path)
    match = page or ("://" not in path and RUN_PATH.fullmatch(path)) or None
    names = [(unquote(part) if page else part).strip() for part in match.groups()] if match else [""]
    if any(name in ("", ".", "..") or "/" in name or not name.isprintable() for name in names):
        raise UserError(f"--wandb_run_path={path}: write user/project/run, or the address of the run's page")
    user, project, run = names
    return user, project, run
