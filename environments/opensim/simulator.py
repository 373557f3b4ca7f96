"""OpenSim as a simulator of one musculoskeletal model: excitations in, coordinates, bodies, muscles and forces out.

What it does differently from a plain ``Manager.integrate`` was measured and is said beside the line that does it.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from milozero.environments.opensim.body import Body
from milozero.helpers.errors import UserError, did_you_mean

INSTALL = "make setup, or pip install --no-deps -r requirements-opensim.txt"
CONTROL_STEP = 0.01  # s, between two actions
GRAVITY = 9.80665  # m/s², of the models
FASTEST = 1e3  # m/s or rad/s; beyond it nothing that a body does is left


@dataclass(frozen=True)
class Preset:
    """How exactly the equations of motion are integrated."""

    method: str  # of OpenSim's Manager
    accuracy: float  # relative error allowed to a step
    shortest: float  # s, smallest step: bounds the time that wild states take


PRESETS = {
    "train": Preset("SemiExplicitEuler2", 1e-3, 1e-5),  # faster, and as exact as training needs
    "accurate": Preset("RungeKuttaMerson", 5e-5, 1e-6),  # what the environments were published with
}


def missing() -> str:
    """Return what has to be installed, or nothing."""
    found = all(importlib.util.find_spec(name) is not None for name in ("opensim", "osim"))
    return "" if found else f"OpenSim and its models are not installed: {INSTALL}"


def model_path(name: str) -> str:
    """Return the file of a model that osim-rl ships; its code is never imported.

    Raises:
        UserError: where OpenSim or the models are not installed.
    """
    if problem := missing():
        raise UserError(problem)
    spec = importlib.util.find_spec("osim")
    assert spec is not None
    for folder in spec.submodule_search_locations or ():
        path = os.path.join(folder, "models", f"{name}.osim")
        if os.path.exists(path):
            return path
    raise UserError(f"osim-rl's model {name}.osim is missing; {INSTALL}")


def _import_opensim() -> Any:
    """Import OpenSim, which then computes the same on every processor with AVX2.

    Its OpenBLAS chooses its kernels by the processor, and their last digits differ: of an episode's forces, within 30
    control steps, more than the last. One choice makes episodes the same, bit for bit, on all nodes of a cluster.
    """
    cpuinfo = Path("/proc/cpuinfo")
    if "OPENBLAS_CORETYPE" in os.environ or not cpuinfo.exists() or " avx2 " not in cpuinfo.read_text():
        import opensim
    else:
        os.environ["OPENBLAS_CORETYPE"] = "Haswell"  # read when the library is loaded
        try:
            import opensim
        finally:
            del os.environ["OPENBLAS_CORETYPE"]
    return opensim


class SimulationError(RuntimeError):
    """The equations of motion could not be integrated, or came to numbers that no body has."""


class Simulator:
    """One model, its muscles driven by excitations that hold for a control step.

    Args:
        model: name of the model's file, without its ending.
        preset: key of `PRESETS`.
        limits: coordinate → (lowest, highest) in degrees, where springs shall hold a joint whose model has none.
        repair: changes the model before it is used.

    Raises:
        UserError: where OpenSim or the model is missing, or there is no such preset.
    """

    def __init__(
        self,
        model: str,
        preset: str = "train",
        limits: Mapping[str, tuple[float, float]] | None = None,
        repair: Callable[[Any], None] | None = None,
    ) -> None:
        if preset not in PRESETS:
            raise UserError(
                f"preset={preset}: must be one of {', '.join(PRESETS)}{did_you_mean(str(preset), PRESETS)}"
            )
        path = model_path(model)
        opensim = self._opensim = _import_opensim()
        # in this order: the first call alone keeps an opensim.log out of the working directory
        opensim.Logger.removeFileSink()
        opensim.Logger.setLevelString("off")
        self.preset = PRESETS[preset]
        self.model = opensim.Model(path)
        for coordinate, (low, high) in (limits or {}).items():
            self.model.addForce(_limit_force(opensim, coordinate, low, high))
        if repair is not None:
            repair(self.model)
        controller = self._add_controller()
        self._initial = opensim.State(self.model.initSystem())
        functions = controller.get_ControlFunctions()  # the model's own now, no longer those that were handed in
        self._excitations = [opensim.Constant.safeDownCast(functions.get(i)) for i in range(functions.getSize())]
        self.state: Any = self._initial
        self._manager: Any = None
        self._steps = 0
        muscles = self.muscles.values()
        self.excitation_range = (
            np.array([m.getMinControl() for m in muscles]),
            np.array([m.getMaxControl() for m in muscles]),
        )
        self.coordinates = [c.getName() for c in self._coordinates.values()]
        self.mass = float(self.model.getTotalMass(self._initial))  # kg

    def _add_controller(self) -> Any:
        """Give every muscle an excitation that can be set between steps."""
        controller = self._opensim.PrescribedController()
        controller.setName("excitations")
        muscles = self.model.getMuscles()
        for index in range(muscles.getSize()):
            muscle, constant = muscles.get(index), self._opensim.Constant(0.0)
            controller.addActuator(muscle)
            controller.prescribeControlForActuator(muscle.getName(), constant)
        self.model.addController(controller)
        return controller

    @cached_property
    def _coordinates(self) -> dict[str, Any]:
        found = self.model.getCoordinateSet()
        return {found.get(i).getName(): found.get(i) for i in range(found.getSize())}

    @cached_property
    def muscles(self) -> dict[str, Any]:
        """Name → OpenSim's muscle, in the model's order."""
        found = self.model.getMuscles()
        return {found.get(i).getName(): found.get(i) for i in range(found.getSize())}

    @property
    def time(self) -> float:
        """Seconds since the reset."""
        return self._steps * CONTROL_STEP

    def reset(self, pose: Mapping[str, float] | None = None, speeds: Mapping[str, float] | None = None) -> None:
        """Put the model into its default pose, but for the coordinates (rad, m) and speeds named here."""
        state = self._opensim.State(self._initial)
        state.setTime(0.0)
        for name, value in (pose or {}).items():
            self._coordinates[name].setValue(state, value, False)
        for name, value in (speeds or {}).items():
            self._coordinates[name].setSpeedValue(state, value)
        self.model.assemble(state)
        self.model.equilibrateMuscles(state)
        self._steps = 0
        self._start(state)

    def _start(self, state: Any) -> None:
        """Integrate from `state` on; a manager belongs to one episode."""
        manager = self._opensim.Manager(self.model)
        manager.setWriteToStorage(False)  # a record of every state of every step would fill the memory
        manager.setPerformAnalyses(False)
        manager.setIntegratorMethod(getattr(self._opensim.Manager, f"IntegratorMethod_{self.preset.method}"))
        manager.setIntegratorAccuracy(self.preset.accuracy)
        manager.setIntegratorMinimumStepSize(self.preset.shortest)
        manager.initialize(state)
        self._manager = manager
        self.state = manager.getState()
        self.model.realizeAcceleration(self.state)

    def step(self, excitations: np.ndarray) -> None:
        """Go on for one control step.

        Args:
            excitations: (muscles,), clipped to what the muscles allow, [0.01, 1]. OpenSim takes any number: 2 drives
                an activation to 11, and 0 lets it fall below 0, where forces become NaN.

        Raises:
            ValueError: where one of them is not finite, or their number is wrong.
            SimulationError: where there is no going on.
        """
        values = np.asarray(excitations, np.float64)
        if values.shape != (len(self._excitations),):
            raise ValueError(f"{values.shape} excitations for {len(self._excitations)} muscles")
        if not np.isfinite(values).all():
            raise ValueError(f"excitations must be finite: {values}")
        for function, value in zip(self._excitations, np.clip(values, *self.excitation_range).tolist(), strict=True):
            function.setValue(value)
        # The integrator reuses the derivative cached with the old excitations, unless the state looks changed.
        self.state.setTime(self.state.getTime())
        self._steps += 1
        try:
            self.state = self._manager.integrate(self.time)
            self.model.realizeAcceleration(self.state)
        except RuntimeError as error:
            raise SimulationError(" ".join(str(error).split())) from None
        self._check()

    def _check(self) -> None:
        numbers = (self.state.getY().to_numpy(), self.state.getUDot().to_numpy())
        if not all(np.isfinite(part).all() for part in numbers):
            raise SimulationError("the state or its derivative is not finite")
        speed = np.abs(self.state.getU().to_numpy()).max()
        if speed > FASTEST:
            raise SimulationError(f"a speed of {speed:.3g} m/s or rad/s")

    def close(self) -> None:
        """Free the integrator, which must not outlive its model."""
        self.state = self._initial
        self._manager = None

    def __del__(self) -> None:
        if hasattr(self, "_manager"):
            self.close()

    def value(self, coordinate: str) -> float:
        """Return a coordinate's value, rad or m."""
        return self._coordinates[coordinate].getValue(self.state)

    def speed(self, coordinate: str) -> float:
        """Return a coordinate's speed, rad/s or m/s."""
        return self._coordinates[coordinate].getSpeedValue(self.state)

    def acceleration(self, coordinate: str) -> float:
        """Return a coordinate's acceleration, rad/s² or m/s²."""
        return self._coordinates[coordinate].getAccelerationValue(self.state)

    def body(self, name: str) -> Body:
        """Return a view of a body that follows the simulation."""
        return Body(self, name)

    def marker(self, name: str) -> np.ndarray:
        """Return the position (3,) of a marker on a body, m, in the ground frame."""
        return self.model.getMarkerSet().get(name).getLocationInGround(self.state).to_numpy()

    def sphere(self, geometry: Any) -> tuple[Callable[[], np.ndarray], float] | None:
        """Return what tells where a contact sphere's center (3,) is, and its radius, m; None for other shapes."""
        sphere = self._opensim.ContactSphere.safeDownCast(geometry)
        if sphere is None:
            return None
        frame, place = sphere.getFrame(), sphere.get_location()
        return lambda: frame.findStationLocationInGround(self.state, place).to_numpy(), float(sphere.getRadius())

    def force(self, name: str) -> np.ndarray:
        """Return what OpenSim records of a force; a foot's begins with its force (3,) on the ground, N."""
        record = self.model.getForceSet().get(name).getRecordValues(self.state)
        return np.array([record.get(i) for i in range(record.getSize())])

    def activations(self) -> np.ndarray:
        """Return the muscles' activations, in the model's order."""
        return np.array([muscle.getActivation(self.state) for muscle in self.muscles.values()])

    def center_of_mass(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return position, velocity and acceleration (3,) of the model's center of mass, in the ground frame."""
        model, state = self.model, self.state
        return (
            model.calcMassCenterPosition(state).to_numpy(),
            model.calcMassCenterVelocity(state).to_numpy(),
            model.calcMassCenterAcceleration(state).to_numpy(),
        )


def _limit_force(opensim: Any, coordinate: str, low: float, high: float) -> Any:
    """Return a damped spring that holds a joint within its range, as stiff as those that the gait models have.

    Without one, muscles come to lengths that make single steps take seconds.
    """
    stiffness, damping, transition = 20.0, 0.25, 10.0  # N·m/deg, N·m·s/deg, deg
    force = opensim.CoordinateLimitForce(coordinate, high, stiffness, low, stiffness, damping, transition)
    force.setName(f"{coordinate}_limit")
    return force
