"""Patterns of surfaces: how much of its second colour a point shows, from its place on the face in metres."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from offramp.data.rooms._casting import Floats

__all__ = ["PATTERNS"]


def _plain(u: Floats, v: Floats) -> Floats:
    return np.zeros_like(u)


def _stripes(u: Floats, v: Floats) -> Floats:
    return (u % 1 < 0.5).astype(np.float32)


def _checks(u: Floats, v: Floats) -> Floats:
    return ((np.floor(u) + np.floor(v)) % 2).astype(np.float32)


def _plaid(u: Floats, v: Floats) -> Floats:
    return 0.5 * (_stripes(u, v) + _stripes(v, u))


def _tiles(u: Floats, v: Floats) -> Floats:
    joint = (u % 1 < 0.06) | (v % 1 < 0.06)
    return np.where(joint, 1, 0.4 * _hashed(np.floor(u), np.floor(v)))


def _planks(u: Floats, v: Floats) -> Floats:
    """Boards one period wide and eight long, each of its own shade, with dark joints."""
    row = np.floor(u)
    along = v / 8 + _hashed(row, np.zeros_like(row))
    joint = (u % 1 < 0.07) | (along % 1 < 0.015)
    return np.where(joint, np.float32(1), 0.7 * _hashed(row, np.floor(along)))


def _speckles(u: Floats, v: Floats) -> Floats:
    return _hashed(np.floor(u), np.floor(v))


def _clouds(u: Floats, v: Floats) -> Floats:
    """Value noise: random values on a lattice, bilinear in between with smooth steps."""
    left, bottom = np.floor(u), np.floor(v)
    across, up = _smooth(u - left), _smooth(v - bottom)
    low = _hashed(left, bottom) * (1 - across) + _hashed(left + 1, bottom) * across
    high = _hashed(left, bottom + 1) * (1 - across) + _hashed(left + 1, bottom + 1) * across
    return low * (1 - up) + high * up


def _smooth(t: Floats) -> Floats:
    return t * t * (3 - 2 * t)


def _hashed(i: Floats, j: Floats) -> Floats:
    """A number from 0 to 1 for each pair of whole numbers."""
    row, column = (number.astype(np.int32).astype(np.uint32) for number in (i, j))
    mixed = row * np.uint32(374761393) + column * np.uint32(668265263)
    mixed = (mixed ^ (mixed >> np.uint32(13))) * np.uint32(1274126177)
    mixed ^= mixed >> np.uint32(16)
    shares: Floats = (mixed >> np.uint32(8)).astype(np.float32) * np.float32(2**-24)
    return shares


# Each maps places on a face, in periods of the pattern, to the share of the second colour.
PATTERNS: dict[str, Callable[[Floats, Floats], Floats]] = {
    "plain": _plain,
    "stripes": _stripes,
    "checks": _checks,
    "plaid": _plaid,
    "tiles": _tiles,
    "planks": _planks,
    "speckles": _speckles,
    "clouds": _clouds,
}
