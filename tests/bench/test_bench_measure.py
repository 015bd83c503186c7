"""What the bench computes from its times, and that it takes them from the device's clock, in turn."""

import pytest
import torch

from focalrepro.bench import measure
from focalrepro.bench.measure import Sizes, curve, in_turn, row, seconds, spread, timed

CPU = torch.device("cpu")


@pytest.fixture
def clock(monkeypatch):
    """A clock in place of the CPU's: a list whose sum is the time; a call takes as long as it says."""
    past = [0.0]
    monkeypatch.setattr(measure, "perf_counter", lambda: sum(past))
    return past


def test_a_ratio_says_how_many_times_better_ours_is():
    three, six = spread([1.0, 3.0, 5.0]), spread([6.0])
    assert three == {"median": 3.0, "low": 1.0, "high": 5.0, "n": 3}
    kind, kept = row("a", "b", "s", three, six)
    assert (kind, kept["ratio"], kept["ours"]) == ("rows", 2.0, three)
    assert row("a", "b", "images/s", three, six, more_is_better=True)[1]["ratio"] == 0.5


def test_seconds_are_of_one_call_by_the_clock_of_the_device(clock):
    assert seconds(lambda: clock.append(0.25), CPU, run_time=2.0) == pytest.approx(0.25)
    assert sum(clock) >= 2.0


def test_a_call_that_is_slow_is_made_twice(clock):
    """Once to warm up, once measured: pycocotools takes most of a minute."""
    calls = []
    assert seconds(lambda: (calls.append(1), clock.append(40.0)), CPU) == pytest.approx(40.0)
    assert len(calls) == 2


def test_the_threads_of_the_process_are_those_of_the_measurement():
    seen, before = set(), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        seconds(lambda: seen.add(torch.get_num_threads()), CPU)
    finally:
        torch.set_num_threads(before)
    assert seen == {2}


def test_sides_are_measured_in_turn(clock):
    order = []

    def call(name, takes):
        return lambda: (order.append(name), clock.append(takes))

    a, b = timed((call("a", 1.0), call("b", 3.0)), CPU, Sizes(run_time=0.5, repeats=2))
    assert "".join(order) == "aabbaabb"  # each once to warm up, once measured
    assert (a["median"], b["median"], a["n"]) == (pytest.approx(1.0), pytest.approx(3.0), 2)
    values = iter([1.0, 10.0, 3.0, 30.0])
    assert in_turn(2, lambda: next(values), lambda: next(values))[1] == {
        "median": 20.0,
        "low": 10.0,
        "high": 30.0,
        "n": 2,
    }


def test_the_slope_of_a_curve_is_that_of_its_upper_half(clock):
    """Seconds are 5 + 0 x up to 2 and 3 x beyond: the slope is 1."""
    cost = {1.0: 5.0, 2.0: 6.0, 4.0: 12.0, 8.0: 24.0}
    points = {x: lambda y=y: lambda: clock.append(y) for x, y in cost.items()}
    kind, found = curve("work", "images", points, CPU, Sizes(run_time=0.0, repeats=1))
    assert kind == "curves" and found["exponent"] == pytest.approx(1.0)
    assert found["x"] == list(cost) and [s["median"] for s in found["y"]] == pytest.approx([*cost.values()])


def test_the_limits_are_operations_and_bytes_a_second(monkeypatch):
    """128³ multiply-adds, and 64 × 128² bytes read and written; the best of five times counts."""
    times = iter([4.0, 2.0, 3.0, 5.0, 6.0, 8.0, 4.0, 9.0, 7.0, 6.0])
    monkeypatch.setattr(measure, "seconds", lambda call, device, run_time: (call(), next(times))[1])
    limits = measure.measure_limits(CPU, Sizes(matrix=128))
    assert limits["teraflops"] == pytest.approx(2 * 128**3 / 2.0 / 1e12)
    assert limits["gigabytes"] == pytest.approx(2 * 64 * 128**2 / 4.0 / 1e9)
