"""What all OpenSim environments share: a `Simulator`, gymnasium's API, the frame, the end of an episode."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces

from milozero.environments.opensim.simulator import CONTROL_STEP, SimulationError, Simulator
from milozero.helpers.errors import UserError


class OsimEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """A musculoskeletal model that an agent moves by its muscles' excitations.

    Actions are excitations in [0, 1], one a muscle. Observations are physical quantities, not scaled; `names` tells
    each of them. An episode begins with the model at rest in its published pose: only targets are random. It is
    truncated after `LIMIT` control steps of 0.01 s.

    Where the equations of motion cannot be integrated any further, the episode is truncated with the observation
    before the action that led there, and ``info["simulation_failed"]`` says why: no rule of the task ended it.

    Args:
        render_mode: ``rgb_array`` or None.
        preset: ``train`` integrates fast, ``accurate`` as the environment was published; see `PRESETS`.
        frame_skip: control steps for which an action is held; their rewards are added up.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 100}  # noqa: RUF012
    MODEL: ClassVar[str]
    LIMIT: ClassVar[int]  # control steps of an episode
    JOINT_LIMITS: ClassVar[dict[str, tuple[float, float]]] = {}  # degrees, where the model has none
    WIDTH: ClassVar[float] = 3.0  # m that a frame shows
    TIPS: ClassVar[dict[str, str]] = {}  # body → the marker where its bone ends, where it is not in its middle

    def __init__(self, render_mode: str | None = None, preset: str = "train", frame_skip: int = 1) -> None:
        assert render_mode in (None, *self.metadata["render_modes"]), render_mode
        if isinstance(frame_skip, bool) or not isinstance(frame_skip, int) or not 1 <= frame_skip <= self.LIMIT:
            raise UserError(f"frame_skip={frame_skip}: a whole number from 1 to {self.LIMIT}")
        self.render_mode, self.frame_skip = render_mode, frame_skip
        self.metadata = self.metadata | {"render_fps": max(round(1 / CONTROL_STEP / frame_skip), 1)}
        self.simulator = Simulator(self.MODEL, preset, self.JOINT_LIMITS, self._repair)
        self.action_space = spaces.Box(0.0, 1.0, (len(self.simulator.muscles),), np.float32)
        self.names = self.observation_names()
        self.observation_space = spaces.Box(-np.inf, np.inf, (len(self.names),), np.float64)
        self.control_steps = 0  # of this episode
        self._obs: np.ndarray | None = None  # None where there is no episode to step
        self._artist: Any = None
        self._frame: np.ndarray | None = None  # the last one that was drawn
        self._failed = False

    def _repair(self, model: Any) -> None:
        """Change the model before it is used."""

    def observation_names(self) -> list[str]:
        """Return what each element of an observation is, with its unit where it has one."""
        raise NotImplementedError

    def _begin(self) -> None:
        """Put the simulator into the first pose and draw the episode's targets."""
        raise NotImplementedError

    def _observe(self) -> np.ndarray:
        """Return the observation (O,) of the simulator's state."""
        raise NotImplementedError

    def _before(self) -> None:
        """Take note of what the reward of a control step needs to know from before it."""

    def _reward(self) -> float:
        """Return the reward of the control step that was just taken."""
        raise NotImplementedError

    def _terminated(self) -> bool:
        """Return whether the episode is over by the task's rules."""
        return False

    def _excitations(self, action: np.ndarray) -> np.ndarray:
        """Return the excitations in the order of the model's muscles."""
        return action

    def _info(self) -> dict[str, Any]:
        """Return what else there is to know about the state."""
        return {}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode; the seed determines its targets and those of the episodes after it."""
        super().reset(seed=seed)
        self.control_steps, self._failed = 0, False
        self._begin()
        self._obs = self._observe()
        return self._obs, self._info()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Hold the excitations for `frame_skip` control steps.

        Raises:
            ValueError: where one of them is NaN or infinite.
        """
        if self._obs is None:
            raise gymnasium.error.ResetNeeded("there is no episode: reset the environment first")
        excitations = self._excitations(np.asarray(action, np.float64))
        total, terminated, failure = 0.0, False, ""
        for _ in range(self.frame_skip):
            self._before()
            try:
                self.simulator.step(excitations)
            except SimulationError as error:
                failure = str(error)
                break
            self.control_steps += 1
            total += self._reward()
            terminated = self._terminated()
            if terminated or self.control_steps >= self.LIMIT:
                break
        truncated = not terminated and (bool(failure) or self.control_steps >= self.LIMIT)
        if failure:
            self._failed = True
            obs, info = self._obs, {"simulation_failed": failure}
        else:
            obs, info = self._observe(), self._info()
        self._obs = None if terminated or truncated else obs
        return obs, total, terminated, truncated, info

    def render(self) -> np.ndarray | None:
        """Return a frame (H, W, 3) uint8 of the model as a stick figure."""
        if self.render_mode is None:
            return None
        if self._artist is None:
            from milozero.environments.opensim.stick_figure import StickFigure

            self._artist = StickFigure(self.simulator, self.WIDTH, self.TIPS)
        if self._frame is None or not self._failed:  # a state that is no longer sound cannot be drawn
            self._frame = self._artist.draw(self._center(), self._caption(), self._sights(), self._above())
        return self._frame

    def _center(self) -> tuple[float, float]:
        """Return the point of the x-y plane, m, in the middle of a frame."""
        raise NotImplementedError

    def _caption(self) -> str:
        """Return a line of text for a frame."""
        return f"{self.simulator.time:5.2f} s"

    def _sights(self) -> list[tuple[float, float, float]]:
        """Return circles to draw beside the model: x, y and radius, m."""
        return []

    def _above(self) -> tuple[list[tuple[float, float]], list[tuple[float, float]]] | None:
        """Return the way gone and the targets for a map from above: x forward and y left, m; None for no map."""
        return None

    def close(self) -> None:
        """Free the simulator."""
        self.simulator.close()
        self._obs = None


class Walker(OsimEnv):
    """A model on legs. It has fallen, and its episode is over, where its pelvis is below `LOWEST`."""

    LOWEST: ClassVar[float] = 0.6  # m

    def __init__(self, render_mode: str | None = None, preset: str = "train", frame_skip: int = 1) -> None:
        super().__init__(render_mode, preset, frame_skip)
        self._pelvis = self.simulator.body("pelvis")

    def _terminated(self) -> bool:
        return bool(self._pelvis.position[1] < self.LOWEST)

    def _center(self) -> tuple[float, float]:
        return float(self._pelvis.position[0]), 0.8
