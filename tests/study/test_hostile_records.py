"""Any file in a record's place is a record with its own id and content, or one line that names the file."""

import json

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from made_up import values_of

from focalrepro.config import TRAINING_VERSION
from focalrepro.evaluation.record import Record, RunFileError, content_digest, read_record

GOOD = values_of(
    per_class={"a": 20.0, "b": 40.0},
    history={"loss": [1.0, None]},
    scores={part: {"right": [1, 2], "wrong": [0, 3]} for part in ("tune", "test")},
    detections={"tune": 1, "test": 2, "test_at_05": 1},
    step_seconds={"own": 0.1, "cross_entropy": 0.1},
)
NUMBERS = st.integers(-(2**70), 2**70) | st.floats() | st.sampled_from([10**400, -(10**400), 0, 1, 1e308])
LEAVES = (
    st.none() | st.booleans() | NUMBERS | st.text(max_size=5) | st.sampled_from(["done", "\ud800", "0" * 12])
)
ANYTHING = st.recursive(
    LEAVES,
    lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=3) | st.sampled_from(list(GOOD)), x),
    max_leaves=5,
)
MANY = settings(
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def places(value, path=()):
    """The paths of all values within a JSON, from outside in."""
    entries = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, inner in entries:
        yield (*path, key)
        yield from places(inner, (*path, key))


def put(value, path, new):
    """A copy with another value at a path."""
    value = json.loads(json.dumps(value))
    holder = value
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = new
    return value


def answer(tmp_path, data):
    """The record that a file with these bytes is read as, or None where it is refused."""
    path = tmp_path / f"{GOOD['run_id']}.json"
    path.write_bytes(data)
    try:
        found = read_record(path)
    except RunFileError as error:
        assert str(error).startswith(f"{path}: ") and len(str(error).splitlines()) == 1
        assert str(error).endswith("or delete the file, and its run is made again") and len(str(error)) < 1000
        return None
    assert isinstance(found, Record) and found.run_id == GOOD["run_id"]
    assert found.digest == content_digest(json.loads(data))
    return found


def encoded(value):
    return json.dumps(value).encode()


def test_the_record_itself_is_read(tmp_path):
    assert answer(tmp_path, encoded(GOOD)).as_json() == GOOD


@settings(MANY, max_examples=300)
@given(path=st.sampled_from(list(places(GOOD))), new=ANYTHING)
@example(path=("config", "lr"), new=10**4000)
@example(path=("config", "steps"), new=-(10**4000))
@example(path=("metrics", "AP"), new=10**4000)
@example(path=("run_id",), new="x" * 5000)
@example(path=("config", "weights"), new="x" * 5000)
@example(path=("digest",), new="x" * 5000)
@example(path=("bootstrap", "AP", 0), new=10**400)
def test_one_value_of_a_record_is_anything(tmp_path, path, new):
    spoiled = put(GOOD, path, new)
    assert answer(tmp_path, encoded(spoiled)) is None or spoiled == GOOD or path == ("digest",)
    found = answer(
        tmp_path, encoded(spoiled | {"digest": content_digest(spoiled)})
    )  # as whoever forges one would
    assert found is None or (0 <= found.AP <= 100 and found.config.as_dict() == GOOD["config"])


@settings(MANY, max_examples=100)
@given(data=st.binary(max_size=60) | ANYTHING.map(encoded))
def test_any_bytes(tmp_path, data):
    assert answer(tmp_path, data) is None


@settings(MANY, max_examples=100)
@given(at=st.integers(0, len(encoded(GOOD)) - 1), byte=st.integers(0, 255))
def test_one_byte_of_a_record_is_another(tmp_path, at, byte):
    data = encoded(GOOD)
    data = data[:at] + bytes([byte]) + data[at + 1 :]
    found = answer(tmp_path, data)
    assert found is None or json.loads(data) == GOOD


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "[" * 100_000 + "]" * 100_000, '{"a":' * 100_000, "9" * 5000]
)
def test_nesting_and_digits_without_end(tmp_path, text):
    assert answer(tmp_path, text.encode()) is None


def test_a_record_of_newer_code_is_not_to_be_deleted(tmp_path):
    newer = values_of(version=TRAINING_VERSION + 1)
    path = tmp_path / f"{newer['run_id']}.json"
    path.write_text(json.dumps(newer | {"config": newer["config"] | {"swish": 1}}))
    said = (
        f"no field swish; training_version is {TRAINING_VERSION + 1}: .* newer focalrepro: update this one$"
    )
    with pytest.raises(RunFileError, match=said):
        read_record(path)
