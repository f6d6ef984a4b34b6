"""Lets other people's models run on fused ops: reads their modules, changes their classes, reports, undoes."""

from .convert import fuse, unfuse
from .report import FuseReport, Row, Shares

__all__ = ["FuseReport", "Row", "Shares", "fuse", "unfuse"]
