"""The folder of compiled code."""

import os
import tempfile
from pathlib import Path

import pytest


def test_compiled_code_is_cached_per_processor_model(tmp_path, monkeypatch):
    from milozero.agents.learning.compilation import cache_folder

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    here = cache_folder()
    assert here.is_dir()
    assert here.is_relative_to(tmp_path)
    read_text = Path.read_text
    monkeypatch.setattr(
        Path, "read_text", lambda path: read_text(path).replace("model name", "model name\t: next", 1)
    )
    assert cache_folder() != here


def test_cache_folder_that_is_not_writable_is_not_used(tmp_path, monkeypatch):
    from milozero.agents.learning.compilation import cache_folder

    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert cache_folder() is None


@pytest.mark.parametrize("level", [0, 1, 2])
def test_compiled_code_is_not_loaded_from_a_folder_that_others_can_write_to(tmp_path, monkeypatch, level):
    from milozero.agents.learning import compilation

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    folder = compilation.cache_folder()
    shared = [folder, *folder.parents][level]
    assert shared.stat().st_mode & 0o777 == 0o700
    shared.chmod(0o777)
    assert compilation.cache_folder() is None
    compilation.temporary_cache.cache_clear()
    compilation.use_private_cache()
    used = Path(os.environ["TORCHINDUCTOR_CACHE_DIR"])
    assert used.parent == tmp_path
    assert used.stat().st_mode & 0o777 == 0o700


def test_cache_folder_that_the_compiler_cannot_use_is_not_used(tmp_path, monkeypatch):
    """Torch does not quote spaces, and a user without a home folder has no cache."""
    from milozero.agents.learning.compilation import cache_folder

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "my home"))
    assert cache_folder() is None
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert cache_folder() is None
