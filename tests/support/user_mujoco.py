"""A user's environment that imports MuJoCo itself: ``--env_id=tests.support.user_mujoco:Drawn-v0``."""

import gymnasium
import mujoco
import numpy as np

BALL = "<mujoco><worldbody><light/><geom size='0.2' rgba='1 0 0 1'/></worldbody></mujoco>"


class Drawn(gymnasium.Env):
    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, render_mode=None):
        self.render_mode = render_mode
        self.model = mujoco.MjModel.from_xml_string(BALL)
        self.data = mujoco.MjData(self.model)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        return np.zeros(2, np.float32), 1.0, False, False, {}

    def render(self):
        mujoco.mj_forward(self.model, self.data)
        renderer = mujoco.Renderer(self.model, 120, 160)
        renderer.update_scene(self.data)
        return renderer.render()


gymnasium.register("Drawn-v0", Drawn, max_episode_steps=5)
