"""Anomalies: those that TFDV cannot see, and all of them in words."""

from __future__ import annotations

from collections.abc import Mapping

from tensorflow_metadata.proto.v0 import anomalies_pb2, statistics_pb2

from components import features

_ENTITY_FEATURES = (features.ENTITY_START, features.ENTITY_END, features.ENTITY_TYPE)


def add_entity_anomalies(
    statistics: statistics_pb2.DatasetFeatureStatisticsList, anomalies: anomalies_pb2.Anomalies
) -> None:
    """Adds what relates features to each other: entity features of unequal number, and no entity at all."""
    for dataset in statistics.datasets:
        totals = {
            feature.path.step[0]: _common(feature).tot_num_values
            for feature in dataset.features
            if feature.path.step[0] in _ENTITY_FEATURES
        }
        if len(totals) < len(_ENTITY_FEATURES):
            continue  # TFDV reports the missing feature.
        if len(set(totals.values())) > 1:
            numbers = ", ".join(f"{name} {total}" for name, total in sorted(totals.items()))
            _add(
                anomalies,
                features.ENTITY_START,
                "Entity features do not align",
                f"The numbers of values differ: {numbers}. Expected a start, an end and a type for each entity.",
            )
        elif not any(totals.values()):
            _add(
                anomalies,
                features.ENTITY_TYPE,
                "No entities",
                f"None of the {dataset.num_examples} texts has an entity. Expected annotated text.",
            )


def describe_anomalies(anomalies_of_splits: Mapping[str, anomalies_pb2.Anomalies]) -> list[str]:
    """Returns a sentence for each anomaly, with split, feature, short and long description."""
    sentences = []
    for split, anomalies in anomalies_of_splits.items():
        described = [(f"feature {name}", info) for name, info in sorted(anomalies.anomaly_info.items())]
        if anomalies.HasField("dataset_anomaly_info"):
            described.append(("dataset", anomalies.dataset_anomaly_info))
        sentences += [
            f"split {split}, {where}: {info.short_description}: {info.description}" for where, info in described
        ]
    return sentences


def _common(feature: statistics_pb2.FeatureNameStatistics) -> statistics_pb2.CommonStatistics:
    return getattr(feature, feature.WhichOneof("stats")).common_stats


def _add(anomalies: anomalies_pb2.Anomalies, feature: str, short_description: str, description: str) -> None:
    info = anomalies.anomaly_info[feature]
    # TFDV may have its own say on the feature.
    before = f"{info.description} " if info.description else ""
    info.path.step[:] = [feature]
    info.severity = anomalies_pb2.AnomalyInfo.ERROR
    info.short_description = "Multiple errors" if before else short_description
    info.description = f"{before}{description}"
    info.reason.add(
        type=anomalies_pb2.AnomalyInfo.UNKNOWN_TYPE, short_description=short_description, description=description
    )
