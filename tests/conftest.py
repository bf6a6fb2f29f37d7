"""What all tests share."""

from __future__ import annotations

import pytest

from zsad import download


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Downloads that fail are tried again at once."""
    monkeypatch.setattr(download, "_PAUSE", 0.0)
