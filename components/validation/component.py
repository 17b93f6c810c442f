"""Statistics, schema and validation of the examples, wired."""

from __future__ import annotations

from typing import NamedTuple

from tfx import types
from tfx.components import ExampleValidator, StatisticsGen
from tfx.dsl.components.base import executor_spec

from components.validation.executor import Executor
from components.validation.schema import PackagedSchema


class StoppingExampleValidator(ExampleValidator):
    """ExampleValidator that stops the run at an anomaly; inputs and outputs are the stock component's."""

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)


class ValidationComponents(NamedTuple):
    """The components of this step, in the order data flows."""

    statistics_gen: StatisticsGen
    schema: PackagedSchema
    example_validator: StoppingExampleValidator


def make_validation_components(examples: types.BaseChannel) -> ValidationComponents:
    """Returns the components that compute statistics of `examples`, publish the schema, and compare the two.

    Whatever follows must be made to wait (`add_upstream_node(example_validator)`), or it runs in spite of anomalies
    where the runner does not go in order.
    """
    # Every split is computed and validated.
    statistics_gen = StatisticsGen(examples=examples)
    # The schema is part of the package, so it has no path.
    schema = PackagedSchema()
    # An anomaly raises, with its text.
    example_validator = StoppingExampleValidator(
        statistics=statistics_gen.outputs["statistics"], schema=schema.outputs["schema"]
    ).with_id("ExampleValidator")
    return ValidationComponents(statistics_gen, schema, example_validator)
