"""A run folder whose files a test may change, as a user may who deletes their lines in SHA256SUMS."""

from pathlib import Path


def unchecked(folder: Path) -> Path:
    """Delete all checksums of a folder and of those in it; the folder."""
    for sums in folder.rglob("SHA256SUMS"):
        sums.write_bytes(b"")
    return folder
