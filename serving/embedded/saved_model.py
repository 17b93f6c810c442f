"""One version of a model in memory: a SavedModel in a Session and Graph of its own.

TensorFlow Serving runs SavedModels through C++ sessions. The nearest thing in Python is the v1 loader with the call
below `session.run`: unlike `tf.saved_model.load` it reads TF1 exports too and needs nothing but the signature_def;
unlike `session.run(feed_dict)` it checks no static shapes and casts no types. The session optimizes a graph once for
each choice of outputs, whatever the options of a run.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
import tensorflow_text  # noqa: F401 -- registers the ops that tokenization in the graph uses
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import config_pb2, saved_model_pb2
from tensorflow.python.client import pywrap_tf_session
from tensorflow.python.saved_model import loader_impl

from serving.embedded.status import StatusError, status_error_from_tensorflow
from serving.embedded.tensors import dtype_name

logger = logging.getLogger(__name__)

DEFAULT_SIGNATURE = "serving_default"
_SERVE_TAG = "serve"


class LoadedModel:
    """A SavedModel that is ready to answer; thread-safe.

    Args:
        path: the version folder, with saved_model.pb.
        session_config: TensorFlow's own settings, such as numbers of threads.

    Raises:
        StatusError: the folder holds no SavedModel that can be loaded, in TensorFlow Serving's words.
    """

    def __init__(self, path: Path, session_config: config_pb2.ConfigProto | None = None) -> None:
        _check_readable(path)
        self.path = path
        self._session = tf.compat.v1.Session(graph=tf.Graph(), config=session_config)
        try:
            self.signatures: Mapping[str, Any] = _load(path, self._session)
            self._session._extend_graph()
        except Exception as error:
            self._session.close()
            raise status_error_from_tensorflow(error) from error

    def close(self) -> None:
        """Frees the model's memory; nothing may be running."""
        self._session.close()

    def run(
        self,
        signature_name: str,
        inputs: Mapping[str, Any],
        output_names: Sequence[str],
        *,
        timeout_ms: int = 0,
    ) -> list[Any]:
        """Returns the outputs `output_names` of a signature for `inputs`, one array for each name of the signature.

        Args:
            signature_name: one of `signatures`.
            inputs: an array for each input.
            output_names: which outputs.
            timeout_ms: how long the run may take; 0 sets no limit. It ends with the op that is under way then.

        Raises:
            StatusError: an input has the wrong type, an op failed, or the time was up.
        """
        signature = self.signatures[signature_name]
        aliases = sorted(signature.inputs)
        for position, alias in enumerate(aliases):
            expected = dtype_name(signature.inputs[alias].dtype)
            received = dtype_name(tf.dtypes.as_dtype(inputs[alias].dtype).as_datatype_enum)
            if received != expected:
                raise StatusError(
                    "INVALID_ARGUMENT", f"Expects arg[{position}] to be {expected} but {received} is provided"
                )
        # Without a limit the caller's thread runs the ops, one after another (large ones are still divided): no change
        # of threads for each op. A session looks at the time only while it waits for threads of its own.
        options = config_pb2.RunOptions(timeout_in_ms=timeout_ms, inter_op_thread_pool=0 if timeout_ms else -1)
        buffer = pywrap_tf_session.TF_NewBufferFromString(options.SerializeToString())
        try:
            feed = {self._tensor(signature.inputs[alias].name): inputs[alias] for alias in aliases}
            fetches = [self._tensor(signature.outputs[name].name) for name in output_names]
            return pywrap_tf_session.TF_SessionRun_wrapper(self._session._session, buffer, feed, fetches, [], None)
        except Exception as error:
            raise status_error_from_tensorflow(error) from error
        finally:
            pywrap_tf_session.TF_DeleteBuffer(buffer)

    def _tensor(self, name: str) -> Any:
        return self._session.graph.get_tensor_by_name(name)._as_tf_output()


def _load(path: Path, session: tf.compat.v1.Session) -> dict[str, Any]:
    """Loads graph and variables into `session`; returns the signatures by name."""
    loader = loader_impl.SavedModelLoader(str(path))
    with session.graph.as_default():
        saver, _ = loader.load_graph(session.graph, [_SERVE_TAG])
        index = path / "variables" / "variables.index"
        if index.exists():
            loader.restore_variables(session, saver)
        else:
            # C++ takes this for a model without variables, which is why half-copied folders must never be seen.
            logger.info(
                "The specified SavedModel has no variables; no checkpoints were restored. File does not exist: %s",
                index,
            )
        loader.run_init_ops(session, [_SERVE_TAG])
    return dict(loader.get_meta_graph_def_from_tags([_SERVE_TAG]).signature_def)


def _check_readable(path: Path) -> None:
    """Raises what TensorFlow's C++ loader says of a folder without a readable SavedModel."""
    file = path / "saved_model.pb"
    if not file.exists() and not (path / "saved_model.pbtxt").exists():
        raise StatusError(
            "NOT_FOUND",
            "Specified file path does not appear to contain a SavedModel bundle "
            f"(should have a file called `saved_model.pb`)\nSpecified file path: {path}",
        )
    if file.exists():
        try:
            saved_model_pb2.SavedModel.FromString(file.read_bytes())
        except DecodeError:
            raise StatusError("DATA_LOSS", f"Can't parse {file} as binary proto") from None
