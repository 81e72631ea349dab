"""Programs with other numbers: what takes an hour or a gigabyte, in seconds and megabytes."""

from pathlib import Path


def altered(folder: Path, code: str) -> dict[str, str]:
    """The environment in which each Python program runs `code` before anything else."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(code)
    return {"PYTHONPATH": str(folder)}
