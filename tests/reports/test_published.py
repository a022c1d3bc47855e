"""A published table's rows, placed under the columns of a comparison."""

import pytest

from offramp.errors import UserError
from offramp.papers import _dfs, _dr_mgf, _dr_mgf_tasks
from offramp.papers.catalogue import TABLES
from offramp.papers.published import Table, TaskTable
from offramp.reports._published import published_rows


def columns(exits):
    return [*(str(k + 1) for k in range(exits)), "average", "ensemble"]


def test_every_table_of_the_papers_has_a_name():
    tables = [
        value
        for module in (_dfs, _dr_mgf, _dr_mgf_tasks)
        for value in vars(module).values()
        if isinstance(value, (Table, TaskTable))
    ]
    assert {id(table) for table in tables} == {id(table) for table in TABLES.values()}


def test_columns_are_matched_by_what_they_are():
    ensemble = published_rows("dfs-table1", columns(4)).rows["dfs"]
    assert ensemble == (74.17, 77.43, 78.82, 79.93, None, 80.89)  # the paper prints no average
    average = published_rows("dfs-table3", columns(5)).rows["joint"]
    assert average == (56.64, 65.14, 68.42, 69.77, 71.34, 66.26, None)


def test_another_number_of_exits_is_said_in_one_line():
    rows = published_rows("dfs-table3", columns(6))
    assert rows.notes == ("dfs-table3 has 5 exits and these runs have 6, so only its average is shown",)
    assert rows.rows["dfs"] == (*[None] * 6, 69.05, None)
    assert published_rows("dfs-table2", columns(6)).rows == {}
    assert "none of its rows is shown" in published_rows("dfs-table2", columns(6)).notes[0]


def test_tasks_are_no_exits():
    rows = published_rows("dr-mgf-table6", columns(7))
    assert rows.rows == {}
    assert rows.notes[0].startswith("dr-mgf-table6 has no accuracies of exits but mIoU, ")


def test_a_missing_number_is_no_number_and_what_is_inferred_is_said():
    assert published_rows("dr-mgf-table3-cifar10", columns(7)).rows["nash-mtl"][0] is None
    assert (
        "sdn-ramp (published): printed as SDN" in published_rows("dr-mgf-table1-cifar10", columns(7)).notes[0]
    )


def test_a_wrong_name_lists_the_names_and_what_each_holds():
    with pytest.raises(UserError, match=r"did you mean 'dfs-table2'.*dr-mgf-table6 \(segmentation") as error:
        published_rows("dfs-tabel2", columns(7))
    for name, table in TABLES.items():
        assert f"{name} (" in str(error.value)
        assert table.data in str(error.value)
