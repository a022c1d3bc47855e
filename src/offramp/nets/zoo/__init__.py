"""The published networks, one file each, and their catalogue."""
