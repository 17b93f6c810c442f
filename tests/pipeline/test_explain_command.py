"""`fusion-ner explain`: from a model, or from a server, to a page and a picture."""

from __future__ import annotations

import html.parser
import re

import matplotlib.image
import pytest

from components.trainer.encoder_config import EncoderConfig
from pipeline.command_line import main
from pipeline.explanation_page import colour, columns, explanation_page, lines
from pipeline.explanation_picture import MissingGlyphsError, fonts_for, write_picture
from serving.errors import MalformedResponse
from serving.explanation import ExplainedToken, Explanation, explanation
from serving.protocol import fusion_ner_protocol_pb2 as protocol

TEXT = "张三 <b>"


def explained(pieces=("a", "<", "b")):
    tokens, start = [], 0
    for place, piece in enumerate(pieces):
        tag = [0.7, 0.2, 0.1] if place % 2 else [0.1, 0.2, 0.7]
        tokens.append(ExplainedToken(start, start + len(piece), piece, tuple(tag), (0.25, 0.75)))
        start += len(piece)
    return Explanation("".join(pieces), ("O", "B-PER", "I-PER"), 2, tuple(tokens))


def test_the_page_is_well_formed_and_refers_to_nothing_outside():
    page = explanation_page(explained())
    html.parser.HTMLParser().feed(page)
    assert not re.search(r"https?:|src=|href=|@import|url\(", page)
    assert '<th scope="col">&lt;</th>' in page
    assert 'title="a, layer 2: 0.7500"' in page
    assert page.count("<td style=") == 3 * 2
    assert page.index("layer 2</th>") < page.index("layer 1</th>")
    assert "I-PER<br>0.70" in page
    assert '<meta charset="utf-8">' in page


@pytest.mark.parametrize(
    ("pieces", "counts"),
    [
        pytest.param(["中"] * 19, [18, 1], id="narrow"),
        pytest.param(["x" * 100, "y"], [1, 1], id="wider than a line"),
        pytest.param(["a"], [1], id="one"),
    ],
)
def test_lines(pieces, counts):
    assert [len(line) for line in lines(explained(pieces))] == counts


def test_columns_and_colours():
    assert columns("中a！") == 5
    assert [colour(share) for share in (-1.0, 0.0, 0.5, 1.0, 2.0)] == [
        "rgb(247, 251, 255)",
        "rgb(247, 251, 255)",
        "rgb(107, 174, 214)",
        "rgb(8, 48, 107)",
        "rgb(8, 48, 107)",
    ]


def test_the_picture_is_drawn_without_missing_glyphs(tmp_path, recwarn):
    write_picture(explained(["a", "$", "x", "$", "&"] * 6), tmp_path / "page.png")
    picture = matplotlib.image.imread(tmp_path / "page.png")
    assert min(picture.shape[:2]) > 100
    assert picture.std() > 0.05
    assert not [warning for warning in recwarn if "missing from font" in str(warning.message)]


def test_characters_in_no_font_are_named():
    with pytest.raises(MissingGlyphsError, match="no installed font has glyphs for \U0010fffd"):
        fonts_for("a\U0010fffd")


def answer(**changed):
    """The answer to "ab c", two tokens and one place of padding, with changed outputs."""
    outputs = {
        "token_count": ("DT_INT32", (1,), [2]),
        "token_start": ("DT_INT32", (1, 3), [0, 3, -1]),
        "token_end": ("DT_INT32", (1, 3), [2, 4, -1]),
        "token_text": ("DT_STRING", (1, 3), [b"ab", b"c", b""]),
        "tag_name": ("DT_STRING", (1, 2), [b"O", b"B-X"]),
        "tag_probability": ("DT_FLOAT", (1, 3, 2), [0.5, 0.5, 0.25, 0.75, 0.0, 0.0]),
        "layer_weights": ("DT_FLOAT", (1, 3, 1), [1.0, 1.0, 0.0]),
    } | changed
    response = protocol.PredictResponse()
    for name, (dtype, shape, values) in outputs.items():
        tensor = response.outputs[name]
        tensor.dtype = protocol.DataType.Value(dtype)
        for size in shape:
            tensor.tensor_shape.dim.add(size=size)
        field = {"DT_INT32": "int_val", "DT_FLOAT": "float_val", "DT_STRING": "string_val"}[dtype]
        getattr(tensor, field).extend(values)
    return response


def test_an_answer_is_read_without_its_padding():
    read = explanation("ab c", answer())
    assert read.tags == ("O", "B-X")
    assert read.tokens == (
        ExplainedToken(0, 2, "ab", (0.5, 0.5), (1.0,)),
        ExplainedToken(3, 4, "c", (0.25, 0.75), (1.0,)),
    )
    assert read.best_tag(read.tokens[1]) == ("B-X", 0.75)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        pytest.param({"token_count": ("DT_INT32", (1,), [4])}, "token_count: expected 0 to 3; received 4", id="count"),
        pytest.param({"token_end": ("DT_INT32", (1, 3), [9, 4, -1])}, "token 0: 'ab' does not stand between", id="end"),
        pytest.param({"token_text": ("DT_STRING", (1, 3), [b"x", b"c", b""])}, "token 0: 'x' does not", id="text"),
        pytest.param({"layer_weights": ("DT_FLOAT", (3,), [1.0] * 3)}, "expected 3 dimensions", id="shape"),
    ],
)
def test_a_malformed_answer_is_refused(changed, message):
    with pytest.raises(MalformedResponse, match=message):
        explanation("ab c", answer(**changed))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    from components.trainer.servable import Servable, export
    from components.trainer.tagger import FusionTagger
    from components.trainer.text_tagger import TextTagger
    from components.transform.tokenizer import Tokenizer
    from components.transform.vocabulary import Vocabulary

    vocabulary = Vocabulary(("[PAD]", "[UNK]", "[CLS]", "[SEP]", *"张三<b>"))
    config = EncoderConfig(len(vocabulary), hidden_size=8, num_layers=2, num_heads=2, intermediate_size=8)
    tagger = TextTagger(FusionTagger(config, 3, seed=1), cls_id=2, sep_id=3, window=32, overlap=8, continuation=None)
    folder = tmp_path_factory.mktemp("serving") / "ner" / "7"
    export(Servable(Tokenizer(vocabulary, lower_case=True), tagger, ("O", "B-PER", "I-PER")), folder)
    return folder


def test_a_model_in_this_process_is_drawn(model, tmp_path, capsys):
    assert main(["explain", TEXT, "--model", str(model.parent), "--output", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert re.findall(r'<th scope="col">(.*?)</th>', page) == ["张", "三", "&lt;", "b", "&gt;"]
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "page.html")


def test_a_server_gives_the_same_page(model, tmp_path):
    from serving.model_server import embedded_server, start_model_server

    files = [tmp_path / "process.html", tmp_path / "server.html"]
    assert main(["explain", TEXT, "--model", str(model), "--output", str(files[0])]) == 0
    with start_model_server(model.parent, "ner", program=embedded_server()) as server:
        server.wait_until_available(60)
        assert main(["explain", TEXT, "--target", server.target, "--output", str(files[1])]) == 0
    cells = [re.findall(r"layer \d: ([\d.]+)", file.read_text(encoding="utf-8")) for file in files]
    assert len(cells[0]) == 5 * 2
    assert [float(cell) for cell in cells[1]] == pytest.approx([float(cell) for cell in cells[0]], abs=2e-4)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(["a", "--output", "page.pdf"], "expected a file that ends in .html or .png", id="suffix"),
        pytest.param(["a", "--output", "nowhere/page.png"], "there is no folder", id="folder"),
        pytest.param(["a" * 5001, "--output", "page.png"], "at most 5000 characters; this has 5001", id="long"),
        pytest.param([" ", "--output", "page.png"], "the text has no token", id="no token"),
        pytest.param(["\U0010fffd", "--output", "page.png"], "no installed font has glyphs|no token", id="glyphs"),
    ],
)
def test_user_mistakes(model, tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    assert main(["explain", *words, "--model", str(model)]) == 2
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(lambda path: path.mkdir(), "is a folder", id="folder"),
        pytest.param(lambda path: path.symlink_to("/dev/full"), "cannot be written: No space left", id="full disk"),
    ],
)
@pytest.mark.parametrize("suffix", ["html", "png"])
def test_an_output_that_cannot_be_written(model, tmp_path, capsys, make, message, suffix):
    output = tmp_path / f"page.{suffix}"
    make(output)
    assert main(["explain", "b", "--model", str(model), "--output", str(output)]) == 2
    assert f"--output: {output} {message}" in capsys.readouterr().err


def test_a_model_without_the_signature_is_refused(tmp_path, capsys):
    import tensorflow as tf

    module = tf.Module()
    module.f = tf.function(lambda text: {"text": text}, input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    tf.saved_model.save(module, str(tmp_path / "old"), signatures={"serving_default": module.f})
    assert main(["explain", "a", "--model", str(tmp_path / "old"), "--output", str(tmp_path / "a.html")]) == 2
    assert "has no signature explain" in capsys.readouterr().err
