from __future__ import annotations

import json
import pathlib

import pytest

from components.trainer.checkpoint_error import CheckpointError
from components.trainer.encoder_tokenizer import cased_share, check_vocabulary_file, declared_case

CONFIG, TOKENIZER = "tokenizer_config.json", "tokenizer.json"
WORD_PIECE = {"type": "WordPiece", "continuing_subword_prefix": "##", "vocab": {"[PAD]": 0}}
ANY = {"tokenizer_class": "PreTrainedTokenizerFast"}


def tokenizer(model: object = WORD_PIECE, **normalizer: object) -> dict[str, object]:
    return {"model": model, "normalizer": {"type": "BertNormalizer", "lowercase": True, **normalizer}}


def write(folder: pathlib.Path, files: dict[str, object]) -> pathlib.Path:
    for name, values in files.items():
        text = values if isinstance(values, str) else json.dumps(values)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("files", "lower_case"),
    [
        pytest.param({}, None, id="no file"),
        pytest.param({CONFIG: {"model_max_length": 512}}, None, id="nothing of it"),
        pytest.param({CONFIG: {"do_lower_case": True}}, True, id="lower case"),
        pytest.param({CONFIG: {"do_lower_case": False}}, False, id="cased"),
        pytest.param({CONFIG: '\ufeff{"do_lower_case": false}'}, False, id="byte-order mark"),
        pytest.param({CONFIG: {"do_lower_case": False, "strip_accents": None}}, False, id="accents as lower-casing"),
        pytest.param({CONFIG: {"do_lower_case": True, "strip_accents": True}}, True, id="accents, the same"),
        pytest.param({CONFIG: {"do_lower_case": False, "strip_accents": False}}, False, id="no accents, the same"),
        pytest.param({CONFIG: {"do_lower_case": True, "tokenizer_class": "BertTokenizer"}}, True, id="class"),
        pytest.param({CONFIG: {"do_lower_case": True, "tokenizer_class": "BertTokenizerFast"}}, True, id="fast class"),
        pytest.param({TOKENIZER: tokenizer(lowercase=False)}, False, id="tokenizer.json alone"),
        pytest.param({CONFIG: {}, TOKENIZER: tokenizer()}, True, id="tokenizer.json beside a silent file"),
        pytest.param(
            {CONFIG: {"do_lower_case": False}, TOKENIZER: tokenizer()}, False, id="the class's own goes first"
        ),
        pytest.param({CONFIG: ANY, TOKENIZER: tokenizer(lowercase=False)}, False, id="any class, by tokenizer.json"),
        pytest.param(
            {CONFIG: ANY | {"do_lower_case": True}, TOKENIZER: tokenizer(lowercase=False)},
            False,
            id="any class reads tokenizer.json only",
        ),
        pytest.param(
            {TOKENIZER: tokenizer({"continuing_subword_prefix": "##", "vocab": {}})}, True, id="an old tokenizer.json"
        ),
    ],
)
def test_declared_case(tmp_path: pathlib.Path, files: dict[str, object], lower_case: bool | None) -> None:
    assert declared_case(write(tmp_path, files)) is lower_case


@pytest.mark.parametrize(
    ("files", "message"),
    [
        pytest.param(
            {CONFIG: {"do_lower_case": True, "strip_accents": False}},
            "tokenizer_config.json: strip_accents is false, and lower-casing true",
            id="accents stay",
        ),
        pytest.param(
            {CONFIG: {"do_lower_case": False, "strip_accents": True}},
            "tokenizer_config.json: strip_accents is true, and lower-casing false",
            id="accents go",
        ),
        pytest.param(
            {CONFIG: {"strip_accents": True}}, "strip_accents is true, and lower-casing null", id="accents alone"
        ),
        pytest.param({CONFIG: {"tokenize_chinese_chars": False}}, "tokenize_chinese_chars is false", id="ideographs"),
        pytest.param({CONFIG: {"do_basic_tokenize": False}}, "do_basic_tokenize is false", id="no words"),
        pytest.param(
            {CONFIG: {"tokenizer_class": "BertJapaneseTokenizer"}},
            'tokenizer_class is "BertJapaneseTokenizer", and not BertTokenizer',
            id="another class",
        ),
        pytest.param(
            {CONFIG: ANY, TOKENIZER: tokenizer({"type": "BPE", "merges": []})},
            "tokenizer.json: its model is no WordPiece",
            id="byte pairs",
        ),
        pytest.param({TOKENIZER: tokenizer(type="Lowercase")}, "its normalizer is no BertNormalizer", id="normalizer"),
        pytest.param({TOKENIZER: {"model": WORD_PIECE}}, "its normalizer is no BertNormalizer", id="no normalizer"),
        pytest.param({TOKENIZER: tokenizer(strip_accents=False)}, "strip_accents is false", id="its accents"),
        pytest.param({TOKENIZER: tokenizer(handle_chinese_chars=False)}, "handle_chinese_chars is false", id="its cjk"),
    ],
)
def test_a_tokenizer_that_gives_other_ids_is_refused(
    tmp_path: pathlib.Path, files: dict[str, object], message: str
) -> None:
    with pytest.raises(CheckpointError) as raised:
        declared_case(write(tmp_path, files))
    assert message in str(raised.value)
    assert str(raised.value).endswith(
        "so the encoder was pretrained with other ids than our tokenizer gives; setting transform.lower_case passes "
        "over this file and accepts that"
    )


@pytest.mark.parametrize(
    ("files", "message"),
    [
        pytest.param({CONFIG: [1]}, "tokenizer_config.json: expected a JSON object; received list", id="list"),
        pytest.param({CONFIG: "{"}, "tokenizer_config.json: is no JSON", id="no JSON"),
        pytest.param({CONFIG: {"do_lower_case": "false"}}, 'expected true or false; received "false"', id="text"),
        pytest.param({CONFIG: {"do_lower_case": None}}, "expected true or false; received null", id="null"),
        pytest.param({CONFIG: ANY}, "tokenizer.json: cannot be read: No such file", id="no tokenizer.json"),
        pytest.param({TOKENIZER: tokenizer(lowercase=1)}, "tokenizer.json: lowercase: expected true or", id="number"),
    ],
)
def test_damaged_files_are_named(tmp_path: pathlib.Path, files: dict[str, object], message: str) -> None:
    with pytest.raises(CheckpointError) as raised:
        declared_case(write(tmp_path, files))
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        pytest.param({}, "has no vocab.txt; give one as transform.vocabulary", id="none"),
        pytest.param(
            {TOKENIZER: tokenizer()},
            "has no vocab.txt; write the pieces of model.vocab in its tokenizer.json to it, one a line in the order of",
            id="WordPiece",
        ),
        pytest.param(
            {TOKENIZER: tokenizer({"type": "Unigram"})},
            "has no vocab.txt, and its tokenizer.json is no WordPiece tokenizer, as BERT's is; take another encoder",
            id="another kind",
        ),
    ],
)
def test_a_folder_without_vocabulary_is_refused(tmp_path: pathlib.Path, files: dict[str, object], message: str) -> None:
    with pytest.raises(CheckpointError) as raised:
        check_vocabulary_file(write(tmp_path, files))
    assert str(raised.value).startswith(f"{tmp_path}: {message}")
    (tmp_path / "vocab.txt").touch()
    check_vocabulary_file(tmp_path)


@pytest.mark.parametrize(
    ("tokens", "share"),
    [
        pytest.param([], 0, id="no tokens"),
        pytest.param(["[CLS]", "[UNK]", ""], 0, id="special and empty ones"),
        pytest.param(["[CLS]", "the", "The", "##S", "中"], 0.5, id="first letters and later ones"),
        pytest.param(["[", "]", "[A", "É"], 0.25, id="brackets alone are no special pieces"),
    ],
)
def test_cased_share(tokens: list[str], share: float) -> None:
    assert cased_share(tokens) == share
