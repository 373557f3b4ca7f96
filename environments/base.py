"""The interface of a suite of environments, implemented by a module in this folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import gymnasium


class Suite(Protocol):
    """A suite's module. It can be imported without its simulators.

    `environments.resolve` and similar functions call the suite that claims the id, so no code outside this folder
    depends on a particular suite.
    """

    PACKAGES: tuple[str, ...]
    """Distributions that the suite requires; their versions are listed and recorded."""

    INSTALL: str
    """How to install a missing distribution."""

    OPENGL: bool
    """Whether MuJoCo renders the suite, which requires OpenGL."""

    CHECKS_KWARGS: bool
    """Whether `make_env` rejects invalid `kwargs` itself, so that they cannot crash the simulator."""

    def max_replay_steps(self, kwargs: dict[str, Any]) -> int:
        """Return the maximum number of steps that a resumed worker replays: about a minute's worth."""

    def claims(self, env_id: str) -> bool:
        """Return whether a user's id belongs to this suite, even if it does not exist."""

    def list_env_ids(self) -> list[str]:
        """Return the full ids of all environments, without making any."""

    def resolve(self, env_id: str) -> str:
        """Return the full id of a claimed id.

        Raises:
            UserError: if the environment does not exist; the message suggests similar ids.
        """

    def make_env(self, env_id: str, render_mode: str | None, kwargs: dict[str, Any]) -> gymnasium.Env[Any, Any]:
        """Return one environment with Gymnasium's API and, if possible, a flat observation.

        Args:
            env_id: full id.
            render_mode: ``rgb_array``, ``human`` or None.
            kwargs: overrides of the task's defaults.

        Raises:
            UserError: if the environment cannot be made; the message says what to install or change.
        """

    def make_vector(
        self, env_id: str, num_envs: int, single_env: gymnasium.Env[Any, Any], kwargs: dict[str, Any]
    ) -> Any:
        """Return a faster vector of `num_envs` environments equivalent to `single_env`, the result of `make_env`.

        Its API is Gymnasium's, with next-step autoreset and one seed per environment. None if there is no faster one.
        """
