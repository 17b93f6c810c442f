"""A server that watches the serving directory takes every pushed version, and no request fails meanwhile."""

from __future__ import annotations

import time

from components.pusher.publish import publish
from serving.client import Client
from serving.model_server import embedded_server, start_model_server
from tests.infra_validator.fake_servable import export_servable

FLAGS = ("--file_system_poll_wait_seconds=1",)


def test_pushed_versions_are_served_without_a_gap(tmp_path):
    model = export_servable(tmp_path / "model")
    versions = [publish(model, tmp_path / "ner").version]
    answered = []
    with (
        start_model_server(tmp_path / "ner", "ner", program=embedded_server(), flags=FLAGS) as server,
        Client(server.target, model_name="ner") as client,
    ):
        server.wait_until_available(timeout=60)
        for _ in range(2):
            versions.append(publish(model, tmp_path / "ner", keep_versions=2).version)
            deadline = time.monotonic() + 60
            while client.tag(["王五住在北京"])[0].model_version != versions[-1]:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            answered.append(client.tag(["王五住在北京"])[0])

    assert [tagged.model_version for tagged in answered] == versions[1:]
    assert [(entity.start, entity.end, entity.type) for tagged in answered for entity in tagged.entities] == [
        (0, 2, "PER"),
        (0, 2, "PER"),
    ]
