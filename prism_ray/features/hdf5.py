"""What reading a damaged HDF5 file raises."""

from __future__ import annotations

DAMAGE = (OSError, KeyError, ValueError, RuntimeError, TypeError, AttributeError)
"""Raised by h5py, and by cooler on it, according to what the lost bytes meant: a chunk of values, a table's name, its
type, what HDF5 knows of a group (which is None then), or the lists that it keeps of names (a RuntimeError)."""
