"""Names that Weights & Biases accepts, and paths of its runs."""

from __future__ import annotations

import re
from urllib.parse import unquote

from milozero.helpers.errors import UserError

RUN_PATH = re.compile(r"/?([^/\s]+)/([^/\s]+)/(?:runs/)?([^/]+)/?")
# URL of any tab of a run's page; a self-hosted server may add a path before it.
RUN_URL = re.compile(r"https?://[^/]+/(?:[^?#]*?/)??([^/?#]+)/([^/?#]+)/runs/([^/?#]+)(?:[/?#].*)?")
MAX_NAME_CHARS = 128
FORBIDDEN_NAME_CHARS = "/\\#?%:"  # the client rejects them in project names


def check_wandb_name(name: str) -> None:
    """Check the name of a project or an entity against the rules of Weights & Biases.

    Raises:
        UserError: if the name is too long or contains a forbidden character.
    """
    if len(name) > MAX_NAME_CHARS:
        raise UserError(f"Weights & Biases allows at most {MAX_NAME_CHARS} characters in a name")
    if forbidden := [character for character in FORBIDDEN_NAME_CHARS if character in name]:
        raise UserError(f"Weights & Biases does not allow {forbidden[0]} in a name")


def parse_run_path(path: str) -> tuple[str, str, str]:
    """Return user, project and run of a ``--wandb_run_path``; the run is a name or an id.

    Raises:
        UserError: if it is neither a run path nor the URL of a run.
    """
    url = RUN_URL.fullmatch(path)
    match = url or ("://" not in path and RUN_PATH.fullmatch(path)) or None
    names = [(unquote(part) if url else part).strip() for part in match.groups()] if match else [""]
    if any(name in ("", ".", "..") or "/" in name or not name.isprintable() for name in names):
        raise UserError(f"--wandb_run_path={path}: expected user/project/run or the URL of a run")
    user, project, run = names
    return user, project, run
