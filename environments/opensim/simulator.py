"""OpenSim simulation of one musculoskeletal model: excitations in; coordinates, bodies, muscles and forces out.

Comments mark each deviation from a plain ``Manager.integrate`` and the measured reason for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from milozero.environments.opensim.installation import find_model, import_opensim
from milozero.helpers.errors import UserError, did_you_mean

CONTROL_STEP_S = 0.01  # between two actions
GRAVITY = 9.80665  # m/s², of the models
MAX_SPEED = 1e3  # m/s or rad/s; anything faster is not physical


@dataclass(frozen=True)
class Preset:
    """Integrator of the equations of motion."""

    method: str  # integrator method of OpenSim's Manager
    accuracy: float  # maximum relative error of a step
    min_step: float  # s, smallest step; bounds the computing time of unphysical states


PRESETS = {
    "train": Preset("SemiExplicitEuler2", 1e-3, 1e-5),  # faster, accurate enough for training
    "accurate": Preset("RungeKuttaMerson", 5e-5, 1e-6),  # the published integrator
}


class SimulationError(RuntimeError):
    """The integration failed or reached an unphysical state."""


class Body:
    """Kinematics of a body in the current state, in the ground frame: x forward, y up, z to the right."""

    def __init__(self, simulator: Simulator, name: str) -> None:
        self._simulator = simulator
        self._body = simulator.model.getBodySet().get(name)

    @property
    def position(self) -> np.ndarray:
        """Position of the origin (3,), m."""
        return self._body.getPositionInGround(self._simulator.state).to_numpy()

    @property
    def velocity(self) -> np.ndarray:
        """Velocity of the origin (3,), m/s."""
        return self._body.getLinearVelocityInGround(self._simulator.state).to_numpy()

    def planar_kinematics(self) -> np.ndarray:
        """Return x and y of position, velocity and acceleration, then angle, rate and acceleration about z (9,)."""
        body, state = self._body, self._simulator.state
        linear = self.position, self.velocity, body.getLinearAccelerationInGround(state).to_numpy()
        angles = body.getTransformInGround(state).R().convertRotationToBodyFixedXYZ()
        angular = angles, body.getAngularVelocityInGround(state), body.getAngularAccelerationInGround(state)
        return np.array([*(x for v in linear for x in v[:2]), *(v.to_numpy()[2] for v in angular)])


class Simulator:
    """One model, driven by muscle excitations that are constant during a control step.

    Args:
        model: file name of the model, without extension.
        preset: key of `PRESETS`.
        joint_limits: coordinate → (low, high) in degrees; adds limit springs to joints that lack them.
        patch_model: modifies the model before the system is built.

    Raises:
        UserError: if OpenSim or the model is not installed, or the preset does not exist.
    """

    def __init__(
        self,
        model: str,
        preset: str = "train",
        joint_limits: Mapping[str, tuple[float, float]] | None = None,
        patch_model: Callable[[Any], None] | None = None,
    ) -> None:
        if preset not in PRESETS:
            hint = did_you_mean(str(preset), PRESETS)
            raise UserError(f"preset must be one of {', '.join(PRESETS)}, not '{preset}'{hint}")
        path = find_model(model)
        opensim = self._opensim = import_opensim()
        # In this order; otherwise OpenSim creates opensim.log in the working directory.
        opensim.Logger.removeFileSink()
        opensim.Logger.setLevelString("off")
        self.preset = PRESETS[preset]
        self.model = opensim.Model(path)
        for coordinate, (low, high) in (joint_limits or {}).items():
            self.model.addForce(_make_limit_force(opensim, coordinate, low, high))
        if patch_model is not None:
            patch_model(self.model)
        controller = self._add_controller()
        self._initial = opensim.State(self.model.initSystem())
        self.coordinates = {coordinate.getName(): coordinate for coordinate in self.model.getCoordinateSet()}
        self.muscles = {muscle.getName(): muscle for muscle in self.model.getMuscles()}  # in the model's order
        functions = controller.get_ControlFunctions()  # the model's copies
        self._excitations = [opensim.Constant.safeDownCast(function) for function in functions]
        self.state: Any = self._initial
        self._manager: Any = None
        self._steps = 0
        self.excitation_range = np.array([(m.getMinControl(), m.getMaxControl()) for m in self.muscles.values()]).T
        self.mass = float(self.model.getTotalMass(self._initial))  # kg

    def _add_controller(self) -> Any:
        """Add a controller that sets the excitation of every muscle."""
        controller = self._opensim.PrescribedController()
        controller.setName("excitations")
        for muscle in self.model.getMuscles():
            controller.addActuator(muscle)
            controller.prescribeControlForActuator(muscle.getName(), self._opensim.Constant(0.0))
        self.model.addController(controller)
        return controller

    @property
    def time(self) -> float:
        """Time since the reset, s."""
        return self._steps * CONTROL_STEP_S

    def reset(self, pose: Mapping[str, float] | None = None, speeds: Mapping[str, float] | None = None) -> None:
        """Reset to the default pose, except for the given coordinates (rad, m) and speeds (rad/s, m/s)."""
        state = self._opensim.State(self._initial)
        state.setTime(0.0)
        for name, value in (pose or {}).items():
            self.coordinates[name].setValue(state, value, False)
        for name, value in (speeds or {}).items():
            self.coordinates[name].setSpeedValue(state, value)
        self.model.assemble(state)
        self.model.equilibrateMuscles(state)
        self._steps = 0
        self._start_manager(state)

    def _start_manager(self, state: Any) -> None:
        """Create the integration manager of an episode that starts in `state`."""
        manager = self._opensim.Manager(self.model)
        manager.setWriteToStorage(False)  # storing every state would exhaust the memory
        manager.setPerformAnalyses(False)
        manager.setIntegratorMethod(getattr(self._opensim.Manager, f"IntegratorMethod_{self.preset.method}"))
        manager.setIntegratorAccuracy(self.preset.accuracy)
        manager.setIntegratorMinimumStepSize(self.preset.min_step)
        manager.initialize(state)
        self._manager = manager
        self.state = manager.getState()
        self.model.realizeAcceleration(self.state)

    def step(self, excitations: np.ndarray) -> None:
        """Integrate one control step with excitations (muscles,), clipped to the muscles' range, [0.01, 1].

        OpenSim accepts any number: 2 drives an activation to 11, and 0 lets it fall below 0, where forces become NaN.

        Raises:
            ValueError: if an excitation is not finite or the shape is wrong.
            SimulationError: if the integration fails.
        """
        values = np.asarray(excitations, np.float64)
        if values.shape != (len(self._excitations),):
            raise ValueError(f"excitations have shape {values.shape}, but there are {len(self._excitations)} muscles")
        if not np.isfinite(values).all():
            raise ValueError(f"excitations must be finite: {values}")
        for function, value in zip(self._excitations, np.clip(values, *self.excitation_range).tolist(), strict=True):
            function.setValue(value)
        # Setting the time invalidates the cached derivative; otherwise the integrator would use the old excitations.
        self.state.setTime(self.state.getTime())
        self._steps += 1
        try:
            self.state = self._manager.integrate(self.time)
            self.model.realizeAcceleration(self.state)
        except RuntimeError as error:
            raise SimulationError(" ".join(str(error).split())) from None
        self._check_state()

    def _check_state(self) -> None:
        arrays = (self.state.getY().to_numpy(), self.state.getUDot().to_numpy())
        if not all(np.isfinite(array).all() for array in arrays):
            raise SimulationError("the state or its derivative is not finite")
        speed = np.abs(self.state.getU().to_numpy()).max()
        if speed > MAX_SPEED:
            raise SimulationError(f"a speed of {speed:.3g} m/s or rad/s exceeds {MAX_SPEED:g}")

    def close(self) -> None:
        """Free the integrator, which must not outlive its model."""
        self.state = self._initial
        self._manager = None

    def __del__(self) -> None:
        if hasattr(self, "_manager"):
            self.close()

    def value(self, coordinate: str) -> float:
        """Return a coordinate's value, rad or m."""
        return self.coordinates[coordinate].getValue(self.state)

    def speed(self, coordinate: str) -> float:
        """Return a coordinate's speed, rad/s or m/s."""
        return self.coordinates[coordinate].getSpeedValue(self.state)

    def acceleration(self, coordinate: str) -> float:
        """Return a coordinate's acceleration, rad/s² or m/s²."""
        return self.coordinates[coordinate].getAccelerationValue(self.state)

    def body(self, name: str) -> Body:
        """Return the kinematics of a body, which follow the simulation."""
        return Body(self, name)

    def marker(self, name: str) -> np.ndarray:
        """Return the position of a marker (3,), m, in the ground frame."""
        return self.model.getMarkerSet().get(name).getLocationInGround(self.state).to_numpy()

    def sphere(self, geometry: Any) -> tuple[Callable[[], np.ndarray], float] | None:
        """Return a function for the center (3,), m, of a contact sphere, and its radius, m; None for other shapes."""
        sphere = self._opensim.ContactSphere.safeDownCast(geometry)
        if sphere is None:
            return None
        frame, offset = sphere.getFrame(), sphere.get_location()
        return lambda: frame.findStationLocationInGround(self.state, offset).to_numpy(), float(sphere.getRadius())

    def force(self, name: str) -> np.ndarray:
        """Return the record values of a force; those of a foot start with its force on the ground (3,), N."""
        record = self.model.getForceSet().get(name).getRecordValues(self.state)
        return np.array([record.get(i) for i in range(record.getSize())])

    def activations(self) -> np.ndarray:
        """Return the activations (muscles,), in the model's order."""
        return np.array([muscle.getActivation(self.state) for muscle in self.muscles.values()])

    def center_of_mass(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return position, velocity and acceleration (3,) of the model's center of mass, SI units, ground frame."""
        model, state = self.model, self.state
        return (
            model.calcMassCenterPosition(state).to_numpy(),
            model.calcMassCenterVelocity(state).to_numpy(),
            model.calcMassCenterAcceleration(state).to_numpy(),
        )


def _make_limit_force(opensim: Any, coordinate: str, low: float, high: float) -> Any:
    """Return a damped spring that keeps a joint in its range (degrees), as stiff as those of the gait models.

    Without it, muscles reach lengths at which a single step takes seconds.
    """
    stiffness, damping, transition = 20.0, 0.25, 10.0  # N·m/deg, N·m·s/deg, deg
    force = opensim.CoordinateLimitForce(coordinate, high, stiffness, low, stiffness, damping, transition)
    force.setName(f"{coordinate}_limit")
    return force
