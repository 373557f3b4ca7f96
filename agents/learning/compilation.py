"""Compiled training steps, and the all-reduce as an operator within them."""

from __future__ import annotations

import itertools
import os
import platform
import traceback
import types
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from milozero.helpers.comm import Comm

_library: Any = torch.library.Library("milozero", "DEF")  # type: ignore[no-untyped-call]
_numbers = itertools.count()  # operators are named by the order in which they are made, the same in every run


def cache_folder() -> Path | None:
    """Return where compiled code is kept between runs; None where that cannot be written.

    A folder for each kind of processor: the code uses whatever the one it was compiled on can do, and the nodes of a
    cluster share a home.
    """
    try:
        described = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
        kind = "\n".join(
            line for line in described.splitlines() if line.startswith(("model name", "flags", "Features"))
        )
    except OSError:  # no Linux
        kind = platform.processor()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    folder = cache / "milozero" / "compiled" / f"{platform.machine()}_{zlib.crc32(kind.encode()):08x}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


def compile_method(method: Any, device: str) -> Any:
    """Return a bound method compiled for the shapes it is called with.

    Only the shapes of its tensors are checked at each call (a third of the call's time goes into checking
    everything else that the code reads, and none of that changes). So each compiled method needs a code object of its
    own: torch keeps what it compiled with the code, and another network's must not be taken for this one's.
    """
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # no pool of processes under MPI
    if (folder := cache_folder()) is not None:
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))
    function = method.__func__
    own = types.FunctionType(
        function.__code__.replace(),
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    options: Any = {"guard_filter_fn": lambda guards: [guard.guard_type == "TENSOR_MATCH" for guard in guards]}
    if device == "cpu":
        options["cpp_wrapper"] = True
        options["cpp.use_decompose_tanh"] = True  # by exp: several times as fast, off by about 1e-7
    return torch.compile(types.MethodType(own, method.__self__), fullgraph=True, dynamic=False, options=options)


def make_all_reduce(get_comm: Callable[[], Comm]) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return an operator of torch that sums a tensor over all workers, so that compiled code can call it.

    Args:
        get_comm: returns the workers at the time of each call.
    """

    def all_reduce(tensor: torch.Tensor) -> torch.Tensor:
        total = tensor.to("cpu", copy=True)  # an operator must not change its arguments
        try:
            get_comm().sum_(total.numpy())
        except BaseException:
            traceback.print_exc()  # compiled code reports that it failed, not why
            raise
        return total.to(tensor.device)

    name = f"all_reduce_{next(_numbers)}"
    _library.define(f"{name}(Tensor tensor) -> Tensor")
    _library.impl(name, all_reduce, "CompositeExplicitAutograd")
    _library.impl(name, torch.empty_like, "Meta")
    operator: Callable[[torch.Tensor], torch.Tensor] = getattr(torch.ops.milozero, name)
    return operator
