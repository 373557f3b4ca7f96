"""What a suite of environments is: a module in this folder that has these names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import gymnasium


class Suite(Protocol):
    """A suite's module. Importing it needs none of its simulators.

    `environments.resolve` and the others find the suite that claims an id and hand the call on, so that nothing
    outside of this folder knows one suite from another.
    """

    PACKAGES: tuple[str, ...]
    """The distributions that simulate it; their versions are listed and recorded."""

    INSTALL: str
    """What to do where one of them is missing."""

    OPENGL: bool
    """Whether its pictures are MuJoCo's, which need OpenGL."""

    def longest_replay(self, kwargs: dict[str, Any]) -> int:
        """Return how many steps a resumed worker may have to take again: about a minute or so of them."""

    def claims(self, env_id: str) -> bool:
        """Return whether an id as a user wrote it is one of this suite's, known to it or not."""

    def ids(self) -> list[str]:
        """Return the full ids of its environments, without making any."""

    def resolve(self, env_id: str) -> str:
        """Return the full id of a claimed one.

        Raises:
            UserError: where there is no such environment, with near names.
        """

    def make_env(self, env_id: str, render_mode: str | None, kwargs: dict[str, Any]) -> gymnasium.Env[Any, Any]:
        """Return one environment with gymnasium's API and, where it can be had, a flat observation.

        Args:
            env_id: a full id.
            render_mode: ``rgb_array``, ``human`` or None.
            kwargs: what the user wants different from the task's defaults.

        Raises:
            UserError: where it cannot be made, saying what to install or to change.
        """

    def make_vector(self, env_id: str, num_envs: int, like: gymnasium.Env[Any, Any], kwargs: dict[str, Any]) -> Any:
        """Return `num_envs` of them as a vector with gymnasium's API, next-step autoreset, and a seed for each.

        Args:
            env_id: a full id.
            num_envs: how many.
            like: what `make_env` returned for the same id; a faster simulator must agree with it.
            kwargs: as in `make_env`.
        """
