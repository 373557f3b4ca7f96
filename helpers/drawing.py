"""Matplotlib, independent of the user's configuration."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

from milozero.helpers.errors import UserError


def _import_matplotlib() -> ModuleType:
    """Import matplotlib without MPLBACKEND, which notebooks set to a backend that may not be installed here."""
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib.style

        return matplotlib
    except Exception as error:  # e.g. a matplotlibrc that is not text
        raise UserError(f"cannot import matplotlib: {type(error).__name__}: {error}") from None
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend


mpl = _import_matplotlib()


@contextlib.contextmanager
def own_style(params: Mapping[str, Any]) -> Iterator[None]:
    """Draw with matplotlib's defaults, updated by `params`. Text is literal: a ``$`` in a name is not math."""
    with mpl.style.context(["default", {"text.parse_math": False, **params}]):
        yield
