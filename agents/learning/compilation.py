"""Compile training steps with torch.compile, including their all-reduce."""

from __future__ import annotations

import functools
import itertools
import os
import platform
import tempfile
import traceback
import types
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from milozero.helpers.comm import Comm
from milozero.helpers.errors import RunError
from milozero.helpers.files import is_private

_library: Any = torch.library.Library("milozero", "DEF")  # type: ignore[no-untyped-call]
_operator_ids = itertools.count()  # names depend on the order of creation only, so they are the same in every run


def cache_folder() -> Path | None:
    """Return the folder that caches compiled code between runs; None if it cannot be used, or others can write to it.

    Every processor model has its own folder: compiled code uses all instructions of the processor, and the nodes of a
    cluster may share a home directory.
    """
    try:
        description = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
        fields = ("model name", "flags", "Features")
        model = "\n".join(line for line in description.splitlines() if line.startswith(fields))
    except OSError:  # not Linux
        model = platform.processor()
    cache = Path(os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or "~/.cache"))
    if not cache.is_absolute() or any(map(str.isspace, str(cache))):  # no home, or spaces, which torch does not quote
        return None
    folder = cache / "milozero" / "compiled" / f"{platform.machine()}_{zlib.crc32(model.encode()):08x}"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        own = (folder.parent.parent, folder.parent, folder)  # a parent lets others replace it
        for each in own:
            each.mkdir(mode=0o700, exist_ok=True)
        return folder if all(map(is_private, own)) and os.access(folder, os.W_OK) else None
    except OSError:
        return None


@functools.cache
def temporary_cache() -> tempfile.TemporaryDirectory[str]:
    """Return a private folder for compiled code, which is removed when this process exits."""
    return tempfile.TemporaryDirectory(prefix="milozero-compiled-")


def use_private_cache() -> None:
    """Make torch cache compiled code where only this user can write, unless TORCHINDUCTOR_CACHE_DIR is set.

    Torch's default is in the folder of temporary files, where another user could create it first.
    """
    if "TORCHINDUCTOR_CACHE_DIR" not in os.environ:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(cache_folder() or temporary_cache().name)


def compile_method(method: Any, device: str) -> Any:
    """Return a bound method, compiled for the shapes that it is called with.

    Guards check only the shapes of tensors: nothing else that the method reads changes, and checking it would take a
    third of the call's time. Torch caches compiled code by code object, so each method gets its own copy;
    otherwise, with so few guards, torch could reuse the code of another network.

    The returned method raises a RunError if the C++ compiler fails, e.g. because it was killed or the disk is full.
    """
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # no process pool under MPI
    use_private_cache()
    function = method.__func__
    copied = types.FunctionType(
        function.__code__.replace(),
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    options: Any = {"guard_filter_fn": lambda guards: [guard.guard_type == "TENSOR_MATCH" for guard in guards]}
    if device == "cpu":
        options["cpp_wrapper"] = True
        options["cpp.use_decompose_tanh"] = True  # tanh by exp: several times faster, with an error of about 1e-7
    compiled = torch.compile(
        types.MethodType(copied, method.__self__), fullgraph=True, dynamic=False, options=options
    )

    @functools.wraps(method)
    def call(*args: Any) -> Any:
        try:
            return compiled(*args)
        except RuntimeError as error:
            cause = getattr(error, "inner_exception", None)  # of an InductorError
            if type(cause).__name__ == "CppCompileError" or isinstance(cause, OSError):
                raise RunError(f"cannot compile the update: {_summarize(cause)}; train with --no-compile") from None
            raise

    return call


def _summarize(error: object) -> str:
    """Return the line of a compiler's output that says what went wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if "error:" in line), lines[-1] if lines else type(error).__name__)


def make_all_reduce(get_comm: Callable[[], Comm]) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return an all-reduce (sum over all workers) as a torch operator, which compiled code can call.

    Every all-reduce calls `get_comm` for the current workers.
    """

    def all_reduce(tensor: torch.Tensor) -> torch.Tensor:
        total = tensor.to("cpu", copy=True)  # operators must not modify their arguments
        try:
            get_comm().sum_(total.numpy())
        except BaseException:
            traceback.print_exc()  # compiled code only reports that the operator failed
            raise
        return total.to(tensor.device)

    name = f"all_reduce_{next(_operator_ids)}"
    _library.define(f"{name}(Tensor tensor) -> Tensor")
    _library.impl(name, all_reduce, "CompositeExplicitAutograd")
    _library.impl(name, torch.empty_like, "Meta")
    operator: Callable[[torch.Tensor], torch.Tensor] = getattr(torch.ops.milozero, name)
    return operator
