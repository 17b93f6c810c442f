"""ExampleGen: annotated text in, examples of the splits train, dev and test out."""

from __future__ import annotations

from tfx.components.example_gen.component import FileBasedExampleGen
from tfx.dsl.components.base import executor_spec
from tfx.proto import example_gen_pb2, range_config_pb2

from components.example_gen.driver import ContentDriver
from components.example_gen.executor import Executor, pack_settings
from components.example_gen.patterns import input_patterns
from components.example_gen.settings import SPLITS, DataSettings


class AnnotatedTextExampleGen(FileBasedExampleGen):
    """Reads the files of `settings` and writes one example for each text, in the splits train, dev and test.

    Given splits are kept; the others are cut from train by a hash of the text. `input_base` and `input_config` are
    TFX's own, so its drivers resolve `{SPAN}` and fingerprint the files, here and on Kubeflow.

    Args:
        settings: the files, and how to read them. Files need not be there yet; `check_files` looks.
        range_config: which span to take, if the paths contain `{SPAN}` or a date; None: the latest.

    Outputs:
        examples: splits train, dev and test; beside them `report.json` with the findings on the corpus.
    """

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)
    DRIVER_CLASS = ContentDriver

    def __init__(self, settings: DataSettings, range_config: range_config_pb2.RangeConfig | None = None) -> None:
        base, patterns = input_patterns(settings.files)
        super().__init__(
            input_base=base,
            # TFX names the output splits after these, so a split to be cut stands here too, with train's file.
            input_config=example_gen_pb2.Input(
                splits=[
                    example_gen_pb2.Input.Split(name=name, pattern=patterns.get(name, patterns["train"]))
                    for name in SPLITS
                ]
            ),
            output_config=example_gen_pb2.Output(),
            custom_config=pack_settings(settings),
            range_config=range_config,
        )
