"""The published tables and curves by the names that users type, e.g. ``dfs-table2``."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from offramp.errors import UserError, guess, shown
from offramp.papers import _dfs, _dfs_curves, _dr_mgf, _dr_mgf_routes, _dr_mgf_tasks
from offramp.papers.published import Curve, Table, TaskTable

__all__ = ["CURVES", "SIMILARITIES", "STEP_TIMES", "TABLES", "published_curve", "published_table"]

TABLES: Mapping[str, Table | TaskTable] = MappingProxyType(
    {
        "dfs-table1": _dfs.TABLE_1,
        "dfs-table2": _dfs.TABLE_2,
        "dfs-table3": _dfs.TABLE_3,
        "dfs-table4": _dfs.TABLE_4,
        "dr-mgf-table1-cifar100": _dr_mgf.TABLE_1_CIFAR100,
        "dr-mgf-table1-cifar10": _dr_mgf.TABLE_1_CIFAR10,
        "dr-mgf-table2-cifar100": _dr_mgf.TABLE_2_CIFAR100,
        "dr-mgf-table2-cifar10": _dr_mgf.TABLE_2_CIFAR10,
        "dr-mgf-table3-cifar100": _dr_mgf.TABLE_3_CIFAR100,
        "dr-mgf-table3-cifar10": _dr_mgf.TABLE_3_CIFAR10,
        "dr-mgf-table4": _dr_mgf.TABLE_4,
        "dr-mgf-table5": _dr_mgf.TABLE_5,
        "dr-mgf-table6": _dr_mgf_tasks.TABLE_6,
    }
)

# Numbers of figures that no command shows beside a user's own runs.
STEP_TIMES = (*_dfs.STEP_TIMES, *_dfs.STEP_TIMES_BY_BETA)
SIMILARITIES = _dr_mgf_routes.SIMILARITIES

CURVES: Mapping[str, Curve] = MappingProxyType({"dfs-fig3": _dfs_curves.FIGURE_3})


def published_table(name: str) -> Table | TaskTable:
    """A published table by its name, a key of :data:`TABLES`.

    Raises:
        UserError: No table has this name; the message lists the names and what each holds.
    """
    if name not in TABLES:
        known = "; ".join(f"{key} ({_content(table)})" for key, table in TABLES.items())
        raise UserError(f"no published table {shown(name)}{guess(name, TABLES)}; there are: {known}")
    return TABLES[name]


def published_curve(name: str) -> Curve:
    """A published curve by its name, a key of :data:`CURVES`.

    Raises:
        UserError: No curve has this name; the message lists the names and what each holds.
    """
    if name not in CURVES:
        known = "; ".join(f"{key} ({curve.net} on {curve.data})" for key, curve in CURVES.items())
        raise UserError(f"no published curve {shown(name)}{guess(name, CURVES)}; there are: {known}")
    return CURVES[name]


def _content(table: Table | TaskTable) -> str:
    if isinstance(table, TaskTable):
        return f"segmentation, depth and normals on {table.data}, {len(table.rows)} methods"
    exits = sum(column.isdigit() for column in table.columns)
    return f"{table.net} on {table.data}, {exits} exits, {len(table.top1)} methods"
