"""Settings of the data: which files, and how to read them."""

from __future__ import annotations

import codecs
import dataclasses
import os
import re
from typing import Literal

from components.settings import SettingsError, check
from components.tags import Scheme

Format = Literal["conll", "json_lines"]
SPLITS = ("train", "dev", "test")

REMOTE = "://"
# What FileBasedExampleGen replaces in a path.
PATH_SPECIFICATION = re.compile(r"\{(SPAN|VERSION)(:\d+)?\}|\{(YYYY|MM|DD)\}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReadingSettings:
    """How to read annotated text.

    Args:
        format: `conll` (a token and its tag a line; also `iob2`), `json_lines` (an object a line; also `jsonl`), or
            `auto`: by content.
        encoding: of the files; a byte order mark is accepted.
        scheme: of the tags in columns; `auto`: by evidence of the whole file.
        tag_column: the column of the tags, counted from 1; None: by evidence of the whole file.
        token_column: the column of the tokens, counted from 1; None: by evidence of the whole file.
        joint: between two tokens in columns, where no `# text =` line gives the sentence: `space`, `none`, or
            `auto`: none beside characters of scripts that write no spaces.
        position_digits: whether a digit behind each character token (科0 技1) is its position in the word:
            `strip`, `keep`, or `auto`: stripped if at least 95 % of the tokens have one and they count up.
        span_end: of JSON spans: `exclusive`, `inclusive`, or `auto`: by the surfaces in the file, else exclusive.
        offset_unit: what JSON offsets count: `code_point`, `utf16` (Java, JavaScript) or `byte` (UTF-8).
        trim_whitespace: whether white space at the edges of an entity is cut off instead of refused.
        ignore_types: entity types to leave out.

    Raises:
        SettingsError: a value is impossible.
    """

    format: Literal["auto", "conll", "json_lines", "iob2", "jsonl"] = "auto"
    encoding: str = "utf-8"
    scheme: Literal["auto", "BIO", "IOB1", "BIOES", "BMES"] = "auto"
    tag_column: int | None = None
    token_column: int | None = None
    joint: Literal["auto", "space", "none"] = "auto"
    position_digits: Literal["auto", "strip", "keep"] = "auto"
    span_end: Literal["auto", "exclusive", "inclusive"] = "auto"
    offset_unit: Literal["code_point", "utf16", "byte"] = "code_point"
    trim_whitespace: bool = False
    ignore_types: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        # Files are called by their endings; inside, each format has one name.
        object.__setattr__(self, "format", {"iob2": "conll", "jsonl": "json_lines"}.get(self.format, self.format))
        choices: dict[str, tuple[str, ...]] = {
            "format": ("auto", "conll", "json_lines"),
            "scheme": ("auto", *Scheme.__args__),  # type: ignore[attr-defined]
            "joint": ("auto", "space", "none"),
            "position_digits": ("auto", "strip", "keep"),
            "span_end": ("auto", "exclusive", "inclusive"),
            "offset_unit": ("code_point", "utf16", "byte"),
        }
        for name, allowed in choices.items():
            value = getattr(self, name)
            check(value in allowed, name, f"one of {', '.join(allowed)}", value)
        for name in ("tag_column", "token_column"):
            column = getattr(self, name)
            check(column is None or column >= 1, name, "a column counted from 1", column)
        check(
            self.token_column is None or self.token_column != self.tag_column,
            "token_column",
            "another column than tag_column",
            self.token_column,
        )
        check(_is_encoding(self.encoding), "encoding", "the name of a text encoding, such as utf-8", self.encoding)


@dataclasses.dataclass(frozen=True)
class DataSettings(ReadingSettings):
    """The files of a corpus, and how to read them.

    A path may contain `{SPAN}`, `{VERSION}` or `{YYYY}`, `{MM}`, `{DD}` as FileBasedExampleGen defines them: the latest
    is taken. Splits that are not given are cut from train by a hash of the text, so equal texts stay together.

    Args:
        train: file of the training texts.
        dev: file of the texts that choose the checkpoint; None: cut from train.
        test: file of the texts that are scored; None: cut from train.
        dev_fraction: of train's texts that become dev, if dev is None.
        test_fraction: of train's texts that become test, if test is None.

    Raises:
        SettingsError: a value is impossible.
    """

    train: str
    dev: str | None = None
    test: str | None = None
    dev_fraction: float = 0.1
    test_fraction: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, path in self.files.items():
            check(bool(path.strip()), name, "the path of a file", path)
        check(0 < self.dev_fraction < 1, "dev_fraction", "a fraction between 0 and 1", self.dev_fraction)
        check(0 < self.test_fraction < 1, "test_fraction", "a fraction between 0 and 1", self.test_fraction)
        check(
            self.dev_fraction + self.test_fraction < 1,
            "dev_fraction + test_fraction",
            "less than 1, so that training texts remain",
            self.dev_fraction + self.test_fraction,
        )
        for name, path in self.files.items():
            leftover = PATH_SPECIFICATION.sub("", path)
            if leftover != path and re.search(r"[*?\[\]{}^$|]", leftover):
                raise SettingsError(
                    f"{name}: a path with {{SPAN}}, {{VERSION}} or a date cannot contain any of * ? [ ] {{ }} ^ $ | "
                    f"elsewhere, because TFX would read them as a pattern; received {path!r}; rename the folder"
                )
        schemes = {path.partition(REMOTE)[0] if REMOTE in path else "" for path in self.files.values()}
        check(len(schemes) == 1, "train, dev, test", "files of one file system", list(self.files.values()))
        specifications = {tuple(_specifications(path)) for path in self.files.values()}
        check(
            len(specifications) == 1,
            "train, dev, test",
            "the same of {SPAN}, {VERSION} and dates in the path of every split",
            list(self.files.values()),
        )

    @property
    def files(self) -> dict[str, str]:
        """Split name -> path, of the given splits."""
        paths = {"train": self.train, "dev": self.dev, "test": self.test}
        return {name: path for name, path in paths.items() if path is not None}

    @property
    def reading(self) -> ReadingSettings:
        """The part that says how to read a file."""
        names = [field.name for field in dataclasses.fields(ReadingSettings)]
        return ReadingSettings(**{name: getattr(self, name) for name in names})


def check_files(settings: DataSettings) -> None:
    """Raises SettingsError, naming split and path, unless every given file is there and can be read.

    Paths that are resolved at run time (`{SPAN}` and the like, `gs://...`) are left to the run.
    """
    for name, path in settings.files.items():
        if PATH_SPECIFICATION.search(path) or REMOTE in path:
            continue
        if os.path.isdir(path):
            raise SettingsError(f"data.{name}: {path} is a folder; give one file of annotated text")
        if not os.path.exists(path):
            raise SettingsError(
                f"data.{name}: there is no file {path} (looked for {os.path.abspath(path)}); check the path"
            )
        try:
            with open(path, "rb") as file:
                file.read(1)
        except OSError as error:
            raise SettingsError(
                f"data.{name}: {path} cannot be read: {error.strerror}; check its permissions"
            ) from error


def _is_encoding(name: str) -> bool:
    try:
        return codecs.lookup(name)._is_text_encoding
    except LookupError:
        return False


def _specifications(path: str) -> list[str]:
    return sorted(match.group(1) or match.group(3) for match in PATH_SPECIFICATION.finditer(path))
