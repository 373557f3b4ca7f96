"""Base classes of the OpenSim environments: simulation, Gymnasium's API, rendering, termination."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces

from milozero.environments.opensim.simulator import CONTROL_STEP_S, SimulationError, Simulator
from milozero.environments.opensim.stick_figure import Point, StickFigure
from milozero.helpers.errors import UserError


class OsimEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """A musculoskeletal model controlled by muscle excitations.

    Actions are excitations in [0, 1], one per muscle. Observations are unscaled physical quantities; `names` lists
    them. An episode starts with the model at rest in its published pose; only targets are random. It is truncated
    after `MAX_CONTROL_STEPS` control steps of 0.01 s.

    If the integration fails, the episode is truncated, not terminated: no rule of the task ended it. The final
    observation is then the one before the action, and ``info["simulation_failed"]`` holds the reason.

    Args:
        render_mode: ``rgb_array`` or None.
        preset: ``train`` (fast integrator) or ``accurate`` (the published one); see `PRESETS`.
        frame_skip: number of control steps per action; their rewards are summed.

    Raises:
        UserError: if an argument is invalid or OpenSim is not installed.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 100}  # noqa: RUF012
    MODEL: ClassVar[str]
    MAX_CONTROL_STEPS: ClassVar[int]  # in an episode
    JOINT_LIMITS_DEG: ClassVar[dict[str, tuple[float, float]]] = {}  # of joints that the model does not limit
    FRAME_WIDTH_M: ClassVar[float] = 3.0
    BONE_TIPS: ClassVar[dict[str, str]] = {}  # body → marker at the end of its bone; by default its center of mass

    def __init__(self, render_mode: str | None = None, preset: str = "train", frame_skip: int = 1) -> None:
        assert render_mode in (None, *self.metadata["render_modes"]), render_mode
        max_skip = self.MAX_CONTROL_STEPS
        if isinstance(frame_skip, bool) or not isinstance(frame_skip, int) or not 1 <= frame_skip <= max_skip:
            raise UserError(f"frame_skip must be an integer from 1 to {max_skip}, not {frame_skip}")
        self.render_mode, self.frame_skip = render_mode, frame_skip
        self.metadata = self.metadata | {"render_fps": max(round(1 / CONTROL_STEP_S / frame_skip), 1)}
        self.simulator = Simulator(self.MODEL, preset, self.JOINT_LIMITS_DEG, self._patch_model)
        self.action_space = spaces.Box(0.0, 1.0, (len(self.simulator.muscles),), np.float32)
        self.names = self.observation_names()
        self.observation_space = spaces.Box(-np.inf, np.inf, (len(self.names),), np.float64)
        self.control_steps = 0  # in this episode
        self._obs: np.ndarray | None = None  # None outside an episode
        self._figure: StickFigure | None = None
        self._frame: np.ndarray | None = None  # the last one rendered
        self._failed = False

    def _patch_model(self, model: Any) -> None:
        """Modify the OpenSim model before the system is built."""

    def observation_names(self) -> list[str]:
        """Return the name of each element of an observation, with its unit if it has one."""
        raise NotImplementedError

    def _reset_task(self) -> None:
        """Reset the simulator to the initial pose and sample the targets of the episode."""
        raise NotImplementedError

    def _get_obs(self) -> np.ndarray:
        """Return the observation (O,) of the current state."""
        raise NotImplementedError

    def _get_reward(self) -> float:
        """Return the reward of the last control step."""
        raise NotImplementedError

    def _is_terminated(self) -> bool:
        """Return whether the rules of the task end the episode."""
        return False

    def _to_excitations(self, action: np.ndarray) -> np.ndarray:
        """Return the excitations in the order of the model's muscles."""
        return action

    def _get_info(self) -> dict[str, Any]:
        """Return additional information about the current state."""
        return {}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode; the seed determines its targets and those of later episodes."""
        super().reset(seed=seed)
        self.control_steps, self._failed = 0, False
        self._reset_task()
        self._obs = self._get_obs()
        return self._obs, self._get_info()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Apply the excitations for `frame_skip` control steps.

        Raises:
            ResetNeeded: if the episode has ended.
            ValueError: if an excitation is NaN or infinite.
        """
        if self._obs is None:
            raise gymnasium.error.ResetNeeded("call reset() before step()")
        excitations = self._to_excitations(np.asarray(action, np.float64))
        reward, terminated, failure = 0.0, False, ""
        for _ in range(self.frame_skip):
            try:
                self.simulator.step(excitations)
            except SimulationError as error:
                failure = str(error)
                break
            self.control_steps += 1
            reward += self._get_reward()
            terminated = self._is_terminated()
            if terminated or self.control_steps >= self.MAX_CONTROL_STEPS:
                break
        truncated = not terminated and (bool(failure) or self.control_steps >= self.MAX_CONTROL_STEPS)
        if failure:
            self._failed = True
            obs, info = self._obs.copy(), {"simulation_failed": failure}
        else:
            obs, info = self._get_obs(), self._get_info()
        self._obs = None if terminated or truncated else obs
        return obs, reward, terminated, truncated, info

    def render(self) -> np.ndarray | None:
        """Return a frame (H, W, 3) uint8 of the model as a stick figure."""
        if self.render_mode is None:
            return None
        if self._figure is None:
            self._figure = StickFigure(self.simulator, self.FRAME_WIDTH_M, self.BONE_TIPS)
        if self._frame is None or not self._failed:  # a failed state cannot be drawn
            view = self._camera_center(), self._caption(), self._target_circles(), self._top_view()
            self._frame = self._figure.draw(*view)
        return self._frame

    def _camera_center(self) -> Point:
        """Return the x and y, m, of the center of a frame."""
        raise NotImplementedError

    def _caption(self) -> str:
        """Return the caption of a frame."""
        return f"{self.simulator.time:5.2f} s"

    def _target_circles(self) -> list[tuple[float, float, float]]:
        """Return the target circles to draw: x, y and radius, m."""
        return []

    def _top_view(self) -> tuple[list[Point], list[Point]] | None:
        """Return the path so far and the targets for a map, x forward and y left, m; None for no map."""
        return None

    def close(self) -> None:
        """Free the simulator."""
        self.simulator.close()
        self._obs = None


class Walker(OsimEnv):
    """A model on legs. The episode terminates if its pelvis falls below `MIN_PELVIS_HEIGHT_M`."""

    MIN_PELVIS_HEIGHT_M: ClassVar[float] = 0.6

    def __init__(self, render_mode: str | None = None, preset: str = "train", frame_skip: int = 1) -> None:
        super().__init__(render_mode, preset, frame_skip)
        self._pelvis = self.simulator.body("pelvis")

    def _is_terminated(self) -> bool:
        return bool(self._pelvis.position[1] < self.MIN_PELVIS_HEIGHT_M)

    def _camera_center(self) -> Point:
        return float(self._pelvis.position[0]), 0.8
