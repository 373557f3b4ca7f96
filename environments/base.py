"""The interface of a suite of environments, implemented by a module in this folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    import gymnasium
    import numpy as np


class Vector(Protocol):
    """N environments of one worker that step together, each reset on the step after its episode ends.

    The state of an environment must follow from its seed, the number of its current episode and the actions in it.
    """

    single_threaded: bool
    """Whether a single background thread simulates while the caller waits."""

    counts_resets: bool
    """Whether an episode can start only after all earlier ones of its environment have been started since `seed`."""

    def seed(self, seeds: Sequence[int]) -> None:
        """Set one seed per environment, before the first reset."""

    def reset(self) -> np.ndarray:
        """Start the first episode of every environment; return the observations (N, O)."""

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Step all environments; return observations (N, O), rewards, terminated, truncated (N,).

        Environments whose episodes ended with the previous step ignore the action and start the next one; their
        reward is 0.
        """

    def start_episode(self, n: int, episode: int) -> np.ndarray:
        """Start an episode of environment `n` by its number, 0 for the first; return the first observation (O,)."""

    def step_single(self, n: int, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool]:
        """Step environment `n`; return observation (O,), reward, terminated, truncated."""

    def close(self) -> None:
        """Free the simulators."""


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
        """Return the maximum number of steps that a resumed worker may have to repeat: about a minute's worth.

        If the time limit is longer, or there is none, training truncates episodes, so that those of all environments
        together stay below this number.
        """

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
    ) -> Vector | None:
        """Return a faster vector of `num_envs` environments equivalent to `single_env`, the result of `make_env`.

        None if there is no faster one; then the environments step one after another.
        """
