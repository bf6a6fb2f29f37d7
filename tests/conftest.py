"""What all tests share."""

from __future__ import annotations

import pytest

from zsad import download


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What zsad keeps for later is not that of whoever runs the tests."""
    monkeypatch.setenv("ZSAD_HOME", str(tmp_path_factory.getbasetemp() / "zsad"))


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Downloads that fail are tried again at once."""
    monkeypatch.setattr(download, "_PAUSE", 0.0)
