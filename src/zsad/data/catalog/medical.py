"""Rows to come."""
from zsad.data.catalog import Dataset

ROWS: tuple[Dataset, ...] = ()
