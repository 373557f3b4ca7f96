"""Modules that are imported when they are first used, in a program of their own."""

import subprocess
import sys

import pytest

from milozero.helpers.lazy import lazy_import
from tests.support import ROOT

PROGRAM = """
import sys
sys.path.insert(0, {root!r})
from milozero.helpers.lazy import lazy_import
decimal = lazy_import("decimal")
also = lazy_import("decimal")
assert "decimal" not in sys.modules
from decimal import Decimal  # another import of it is an ordinary one
assert decimal.Decimal is Decimal
assert decimal is sys.modules["decimal"], "the stand-in is still there"
assert also.Decimal is Decimal and also is decimal
assert lazy_import("decimal") is decimal
"""


def test_module_is_imported_at_its_first_use_and_then_stands_there_itself():
    subprocess.run([sys.executable, "-c", PROGRAM.format(root=str(ROOT))], check=True)


def test_no_such_module_is_an_error_at_once():
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        lazy_import("no_such_module")
