"""Your own CSV: what is read, and one line for each way in which it can be wrong."""

import numpy as np
import pandas as pd
import pytest

from focalrepro.rare import data

pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


def test_csv_columns(table, tmp_path):
    table.to_csv(tmp_path / "f.csv", index=False)
    found = data.read_csv(tmp_path / "f.csv", "fraud")
    assert found.own_rate and found.rate == 9 and found.y.sum() == 40
    assert found.x.shape == (400, 2 + 4 + 1)  # amount + indicator, 3 countries + missing, night
    assert np.isnan(found.x[:, 0]).sum() == (found.x[:, 1] == 1).sum() == 45
    assert np.array_equal(found.x[:, 5], table["country"].isna()), "the last of a text's columns is: missing"
    assert (found.x[:, 2:6].sum(1) == 1).all() and np.array_equal(found.x[:, 6], table["night"])
    assert "fraud = yes" in found.about and "name, constant" in found.about


def test_no_such_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.csv: no such file; give --csv"):
        data.read_csv(tmp_path / "none.csv", "y")


def broken(table, change):
    return table.assign(**change) if isinstance(change, dict) else change(table)


@pytest.mark.parametrize(
    "target, change, message",
    [
        ("frod", {}, r"no column 'frod'; did you mean 'fraud'\? Give --target one of: amount, country"),
        ("zzzzzz", {}, r"no column 'zzzzzz'\. Give --target one of: amount, country"),
        ("country", lambda t: t.dropna(), r"column 'country' has 3 different values .*choose another column"),
        ("constant", {}, r"column 'constant' has 1 different value \(1\)"),
        ("country", {}, r"column 'country' is empty in 31 rows; fill or remove"),
        ("fraud", lambda t: t.head(60), r"column 'fraud' is yes in only 6 rows; at least 10 .*collect more"),
        ("fraud", lambda t: t[["name", "constant", "fraud"]], r"no usable column beside 'fraud'.*Add such a"),
    ],
)
def test_csv_errors(table, tmp_path, target, change, message):
    path = tmp_path / "f.csv"
    broken(table, change).to_csv(path, index=False)
    with pytest.raises(ValueError, match=message) as error:
        data.read_csv(path, target)
    assert str(error.value).startswith(f"{path}: ")


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00,\x81\n1", b'a,b\n1,2\n1,2,3,4\n"'])
def test_unreadable_csv(tmp_path, content):
    (tmp_path / "f.csv").write_bytes(content)
    with pytest.raises(ValueError, match=r"f\.csv: not a readable CSV .*save it as UTF-8"):
        data.read_csv(tmp_path / "f.csv", "a")


def test_semicolons_are_recognised(tmp_path):
    (tmp_path / "f.csv").write_text("a;y\n1;0\n")
    with pytest.raises(ValueError, match=r"f\.csv: no column 'y': .* semicolons; save it with commas"):
        data.read_csv(tmp_path / "f.csv", "y")


def test_tabs_are_recognised(tmp_path):
    (tmp_path / "f.csv").write_text("a\ty\n1\t0\n")
    with pytest.raises(ValueError, match=r"f\.csv: no column 'y': .* tabs; save it with commas"):
        data.read_csv(tmp_path / "f.csv", "y")


def test_decimal_commas_beside_semicolons_are_recognised_too(tmp_path):
    (tmp_path / "f.csv").write_text("a;y\n1,5;0\n2,5;1\n")
    with pytest.raises(
        ValueError, match=r"f\.csv: no column 'y': .* semicolons; save it with commas and dec"
    ):
        data.read_csv(tmp_path / "f.csv", "y")


@pytest.mark.parametrize("name", ["None", "NA", "null"])
def test_a_class_may_be_called_none(tmp_path, name):
    pd.DataFrame({"a": range(60), "y": [name, name, "crack"] * 20}).to_csv(tmp_path / "f.csv", index=False)
    found = data.read_csv(tmp_path / "f.csv", "y")
    assert "y = crack" in found.about and found.y.sum() == 20
    text = (tmp_path / "f.csv").read_text()
    (tmp_path / "f.csv").write_text(text.replace(f"7,{name}", "7,"))
    with pytest.raises(ValueError, match="column 'y' is empty in"):
        data.read_csv(tmp_path / "f.csv", "y")


def test_zero_and_one_keep_their_meaning(tmp_path):
    pd.DataFrame({"a": range(40), "y": [0, 1] * 20}).to_csv(tmp_path / "f.csv", index=False)
    assert "y = 1" in data.read_csv(tmp_path / "f.csv", "y").about


def read(tmp_path, content, target="y"):
    path = tmp_path / "f.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return data.read_csv(path, target)


ROWS = "".join(f"{i},{i % 7},{i % 2}\n" for i in range(40))


@pytest.mark.parametrize(
    "content, message",
    [
        ("a,y\n" + ROWS, "rows have more cells than the header has names, 2 names; name every column"),
        ("y\n" + ROWS, "than the header has names, 1 name;"),
        ("a,b,y\n" + ROWS.replace("\n", ",,\n"), "than the header has names, 3 names;"),
        (
            "a,b,y\n" + ROWS + "1,2,3,4\n",
            "not a readable CSV (Error tokenizing data. C error: Expected 3 fields in line 42",
        ),
        ("y,b,y\n" + ROWS, "the header has 'y' 2 times; rename or remove all but one"),
        ("y,b, y \n" + ROWS, "the header has 'y' 2 times"),
        (
            "a,copy,y\n" + "".join(f"{i},{i % 2},{'ny'[i % 2]}\n" for i in range(40)),
            "'copy' tells 'y' in every row",
        ),
        ('"a\nb",c,y\n' + ROWS, "no column 'z'"),
    ],
)
def test_what_would_be_misread_is_named(tmp_path, content, message):
    with pytest.raises(ValueError) as error:
        read(tmp_path, content, "z" if "'z'" in message else "y")
    said = str(error.value)
    assert said.startswith(f"{tmp_path / 'f.csv'}: ") and message in said and "\n" not in said


def test_a_comma_at_the_end_of_each_line_is_no_cell(tmp_path):
    with_comma = read(tmp_path, "a,b,y\n" + ROWS.replace("\n", ",\n"))
    assert np.array_equal(with_comma.x, read(tmp_path, "a,b,y\n" + ROWS).x) and with_comma.x.shape == (40, 2)


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path):
    assert read(tmp_path, "\ufeffy,b,c\n" + ROWS.replace(",", ",x", 1), "c").y.sum() == 20


def test_a_folder_and_a_broken_archive(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        data.read_csv(tmp_path, "y")
    (tmp_path / "f.csv.gz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"f\.csv\.gz: not a readable CSV"):
        data.read_csv(tmp_path / "f.csv.gz", "y")


FEW = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
CELLS = st.sampled_from(
    ["", "0", "1", "yes", "no", "1e400", "-inf", "nan", '"a\nb"', "=1+1", "2024-01-01", "é", "\0"]
)
TABLES = st.lists(st.lists(CELLS, min_size=1, max_size=4).map(",".join), max_size=60).map("\n".join)


@settings(FEW, max_examples=150)
@given(content=st.one_of(st.binary(max_size=300), TABLES.map(lambda text: ("x,y,z\n" + text).encode())))
def test_any_bytes_are_a_table_or_one_line(tmp_path, content):
    path = tmp_path / "any.csv"
    path.write_bytes(content)
    try:
        found = data.read_csv(path, "y")
    except ValueError as error:
        assert str(error).startswith(f"{path}: ") and len(str(error).splitlines()) == 1
        assert type(error) is ValueError
    else:
        assert found.x.dtype == np.float32 and found.x.shape[0] == len(found.y) and found.x.shape[1] > 0
        assert set(found.y) == {0, 1} and not np.isinf(found.x).any() and len(found.about.splitlines()) == 1


TEXT = st.text(
    st.characters(exclude_characters="\r", codec="utf-8"), max_size=3
)  # pandas writes \\r unquoted
NUMBERS = st.floats(allow_nan=True, allow_infinity=True) | st.integers(-(10**30), 10**30)


@settings(FEW, max_examples=60)
@given(st.lists(st.tuples(NUMBERS | TEXT, st.booleans()), min_size=24, max_size=60))
def test_any_good_target_gives_a_table_that_can_be_split(tmp_path, rows):
    rows = [(value, i % 2, flag) for i, (value, flag) in enumerate(rows)]
    path = tmp_path / "good.csv"
    pd.DataFrame(rows, columns=["a", "y", "b"]).to_csv(path, index=False)
    try:
        found = data.read_csv(path, "y")
    except ValueError as error:
        assert "no usable column" in str(error) or "tells 'y' in every row" in str(error)
    else:
        parts = data.split(found, found.rate, 0)
        assert all(np.isfinite(part.x).all() for part in (parts.train, parts.validation, parts.test))


def test_dates_in_seconds_keep_their_digits(tmp_path):
    seconds = 1_700_000_000 + np.arange(200)
    pd.DataFrame({"at": seconds, "y": np.arange(200) % 10 == 0}).to_csv(path := tmp_path / "f.csv")
    assert len(np.unique(data.read_csv(path, "y").x, axis=0)) == 200
