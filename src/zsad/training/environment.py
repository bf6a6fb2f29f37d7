"""What a training runs on: versions, device, the state of the code, the command."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import zsad

#: what numbers may depend on, of an environment and of its packages
_NUMERIC = (
    "python",
    "platform",
    "zsad",
    "git",
    "git_dirty",
    "device",
    "threads",
    "processes",
    "torch",
    "numpy",
    "pillow",
    "accelerate",
)
_PATIENCE = 20  # seconds that git may take


def environment(device: str | torch.device = "cpu") -> dict[str, Any]:
    """Everything that numbers may depend on besides the run's own configuration, as JSON values.

    Args:
        device: That is trained on.

    Returns:
        When and by which command it was started; versions of Python, of zsad and of every package that is loaded; the
        device's name, the numbers of CPU threads and of processes; the git revision of zsad, see :func:`revision`.
    """
    return {
        "started": now(),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "zsad": zsad.__version__,
        **revision(Path(zsad.__file__).parent),
        "device": device_name(torch.device(device)),
        "threads": torch.get_num_threads(),
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
        "packages": packages(),
    }


def changes(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What is another in a later environment, of all that numbers may depend on.

    >>> before, after = ({"zsad": "0.1.0", "packages": {"torch": torch}} for torch in ("2.10", "2.11"))
    >>> changes(before, after)
    ['torch 2.11 in place of 2.10']
    """
    before, after = ({**found.get("packages", {}), **found} for found in (old, new))
    differ = [key for key in _NUMERIC if key in before and key in after and before[key] != after[key]]
    return [f"{key} {after[key]} in place of {before[key]}" for key in differ]


def now() -> str:
    """The time in UTC, to the second, as ISO 8601 has it."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def packages() -> dict[str, str]:
    """Name and version of every installed package of which a module is loaded."""
    found = {
        name for module, names in metadata.packages_distributions().items() if module in sys.modules for name in names
    }
    return {name: metadata.version(name) for name in sorted(found, key=str.lower)}


def device_name(device: torch.device) -> str:
    """What a device is called by those who made it; its type where torch does not say."""
    if device.type == "cuda":
        return f"{device.type}: {torch.cuda.get_device_name(device)}"
    return f"{device.type}: {platform.processor() or platform.machine()}" if device.type == "cpu" else device.type


def revision(package: Path) -> dict[str, Any]:
    """The commit that a package's folder belongs to, and whether files in it were changed or added since.

    Returns:
        {"git": None} where the folder is not part of a checkout, for instance where it was installed, or git is
        missing; else "git", 40 hexadecimal digits, and "git_dirty".
    """
    try:
        _git(package, "ls-files", "--error-unmatch", "__init__.py")  # fails in an environment inside another checkout
        changed = bool(_git(package, "status", "--porcelain", "--", "."))
        return {"git": _git(package, "rev-parse", "HEAD"), "git_dirty": changed}
    except (OSError, subprocess.SubprocessError):
        return {"git": None}


def _git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=_PATIENCE).stdout.strip()
