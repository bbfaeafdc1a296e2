"""Compiled programs are kept in the user's own folder, and read from nowhere else."""

import os

import jax
import pytest

from vqdit.parallel import use_compilation_cache


@pytest.fixture
def chosen(monkeypatch, tmp_path):
    """Chooses the folder as a new process does; returns it, or None."""
    option = "jax_compilation_cache_dir"
    before = jax.config.jax_compilation_cache_dir  # pyright: ignore
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def choose():
        jax.config.update(option, None)
        use_compilation_cache()
        return jax.config.jax_compilation_cache_dir  # pyright: ignore

    yield choose
    jax.config.update(option, before)


def test_the_folder_is_private_and_of_this_user(chosen, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = chosen()
    assert os.path.dirname(folder) == str(tmp_path / "cache" / "vqdit")
    assert f"compiled-{os.getuid()}-" in folder
    assert os.stat(folder).st_mode & 0o777 == 0o700
    assert chosen() == folder
    assert os.listdir(tmp_path) == ["cache"]


def test_a_folder_that_others_may_write_is_not_used(chosen, tmp_path, caplog):
    folder = chosen()
    os.chmod(folder, 0o770)
    assert chosen() is None
    os.rename(folder, tmp_path / "other")
    os.chmod(tmp_path / "other", 0o700)
    os.symlink(tmp_path / "other", folder)
    assert chosen() is None
    assert "must be a folder that only its user can read and write" in caplog.text


def test_without_a_home_folder_nothing_is_kept(chosen, tmp_path, caplog):
    (tmp_path / "cache").write_text("mine")
    assert chosen() is None
    assert "compiled programs are not cached: " in caplog.text


def test_the_setting_of_jax_comes_first(chosen, tmp_path):
    jax.config.update("jax_compilation_cache_dir", "/elsewhere")
    use_compilation_cache()
    assert jax.config.jax_compilation_cache_dir == "/elsewhere"  # pyright: ignore
    assert not os.listdir(tmp_path)
