"""Data of a test's own: nothing is shared, nothing stays."""

import pytest


@pytest.fixture
def data_folder(tmp_path, monkeypatch):
    """An empty folder for prepared data."""
    monkeypatch.setenv("VQDIT_DATA", str(tmp_path / "prepared"))
    return tmp_path / "prepared"
