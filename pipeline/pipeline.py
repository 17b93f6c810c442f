"""The pipeline: its steps in the order in which data flows, the same for every runner."""

from __future__ import annotations

from collections.abc import Sequence

from ml_metadata.proto import metadata_store_pb2
from tfx.orchestration.pipeline import Pipeline

from components.evaluator.component import Evaluator
from components.example_gen.component import AnnotatedTextExampleGen
from components.infra_validator.component import ServingInfraValidator
from components.pusher.component import VersionPusher
from components.trainer.component import create_trainer
from components.transform.component import create_transform
from components.validation.component import make_validation_components
from pipeline.configuration import Configuration


def create_pipeline(
    configuration: Configuration,
    *,
    pipeline_root: str,
    metadata_connection: metadata_store_pb2.ConnectionConfig | None = None,
    beam_pipeline_args: Sequence[str] = (),
) -> Pipeline:
    """Creates the pipeline from annotated text to a pushed model.

    Args:
        configuration: what to do; every step receives its own part.
        pipeline_root: where the runner keeps artifacts.
        metadata_connection: the metadata store; None where the backend has its own.
        beam_pipeline_args: options of Apache Beam for the steps that run on it.

    Example:
        >>> LocalDagRunner().run(create_pipeline(configuration, pipeline_root="out", metadata_connection=sqlite))
    """
    # Reads annotated text; keeps given splits, cuts missing ones by a hash of the text.
    example_gen = AnnotatedTextExampleGen(configuration.data)

    # Computes statistics and compares them with the schema in schemas/; an anomaly stops the run.
    statistics_gen, schema, example_validator = make_validation_components(example_gen.outputs["examples"])

    # Tokenizes in the graph and aligns tags with word pieces.
    transform = create_transform(
        examples=example_gen.outputs["examples"], schema=schema.outputs["schema"], settings=configuration.transform
    )
    # Nothing is computed from data that failed validation.
    transform.add_upstream_node(example_validator)

    # Trains the dynamic-fusion tagger; keeps the checkpoint with the best entity F1 on the dev split.
    trainer = create_trainer(
        examples=transform.outputs["transformed_examples"],
        transform_graph=transform.outputs["transform_graph"],
        settings=configuration.trainer,
    )

    # Scores the exported model on the raw test split, strictly and by entity; the gates decide the blessing.
    evaluator = Evaluator(
        examples=example_gen.outputs["examples"], model=trainer.outputs["model"], settings=configuration.evaluator
    )

    # Starts a model server on the model and compares its answers with the model in process.
    infra_validator = ServingInfraValidator(
        model=trainer.outputs["model"],
        examples=example_gen.outputs["examples"],
        settings=configuration.infra_validator,
        model_name=configuration.name,
    )

    # Publishes the blessed model with its card as a new version, by one atomic rename.
    pusher = VersionPusher(
        model=trainer.outputs["model"],
        model_blessing=evaluator.outputs["blessing"],
        infra_blessing=infra_validator.outputs["blessing"],
        examples=example_gen.outputs["examples"],
        model_run=trainer.outputs["model_run"],
        evaluation=evaluator.outputs["evaluation"],
        serving_directory=str(configuration.serving_directory),
        settings=configuration.pusher,
    )

    return Pipeline(
        pipeline_name=configuration.name,
        pipeline_root=pipeline_root,
        components=[
            example_gen,
            statistics_gen,
            schema,
            example_validator,
            transform,
            trainer,
            evaluator,
            infra_validator,
            pusher,
        ],
        enable_cache=configuration.cache,
        metadata_connection_config=metadata_connection,
        beam_pipeline_args=list(beam_pipeline_args),
    )
