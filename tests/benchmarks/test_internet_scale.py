"""Test the simulation of very large stores."""

from dataclasses import replace

import pytest

from benchmarks.internet_scale import Load, costs_of, quantile, simulate

SMALL = Load(chunks=1e8, agents=1e4, asked=5)


def test_costs_follow_the_generations_that_are_asked() -> None:
    few, many = costs_of(SMALL), costs_of(replace(SMALL, asked=50))
    assert 8 < many.cores / few.cores < 10.1
    assert many.network_gbit == pytest.approx(few.network_gbit * 10)
    assert many.memory_gb == few.memory_gb
    assert costs_of(replace(SMALL, asked=1000)) == costs_of(replace(SMALL, asked=100)), "there are a hundred"


def test_question_waits_for_the_slowest_generation_and_longer_where_processors_are_busy() -> None:
    few, many = (simulate(replace(SMALL, asked=asked), 500, 1) for asked in (1, 50))
    assert few[0] >= 3.0, "a question is embedded first"
    assert quantile(few, 0.5) < quantile(many, 0.5) < quantile(many, 0.99)
    busy = simulate(replace(SMALL, asked=50, utilisation=0.97), 3000, 1)
    assert quantile(busy, 0.99) > quantile(many, 0.99)


def test_one_generation_on_an_idle_machine_takes_the_measured_time() -> None:
    alone = Load(chunks=497e3, agents=10, generation=497e3, asked=1, replicas=1)
    latencies = simulate(alone, 4000, 1)
    assert abs(quantile(latencies, 0.5) - (3.0 + 6.5 + 0.5)) < 0.5
