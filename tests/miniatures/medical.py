"""Miniatures to come."""
from tests.miniatures import Miniature

MINIATURES: list[Miniature] = []
