"""Files of rows, in any of a few formats: CSV, JSON lines, Parquet, and JSON."""

from __future__ import annotations

import codecs
import contextlib
import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from zsad.data.files import is_image, many
from zsad.data.tables.columns import FIELDS, Table
from zsad.data.tables.meta import flat
from zsad.errors import ZsadError
from zsad.writing import whole

_T = TypeVar("_T")
Row = Mapping[str, Any]  # column -> text, number or None


def read(path: Path) -> Table:
    """The rows of a file; its suffix tells the format.

    Raises:
        ZsadError: If the format is not known, or the file is missing, damaged or empty.
    """
    reader = _named(_READERS, path, _instead(path))
    try:
        table = reader(path)
    except OSError as error:
        raise ZsadError(f"{path}: cannot be read ({error.strerror or error}); expected a table of images") from error
    if not len(table):
        raise ZsadError(f"{path}: a table without rows; expected one row for each image")
    return table


def write(rows: Sequence[Row], path: Path) -> None:
    """Rows with the same columns to a file, whole or not at all; its suffix tells the format.

    Raises:
        ZsadError: If the format is not known, or the file cannot be written.
    """
    writer = _named(_WRITERS, path)
    try:
        data = writer(rows)
    except UnicodeEncodeError as error:
        name = ascii(error.object[:200])
        raise ZsadError(f"{path} cannot hold {name}, which is not valid Unicode; write a .jsonl instead") from error
    with whole(path) as part:
        part.write_bytes(data)


def _named(formats: Mapping[str, _T], path: Path, what: str = "no format for tables") -> _T:
    if path.suffix.lower() not in formats:
        raise ZsadError(f"{path}: {what}; expected a name ending in {', '.join(formats)}")
    return formats[path.suffix.lower()]


def _instead(path: Path) -> str:
    """What a file is that is no table, and what to do with it."""
    if is_image(path.name):
        return "a picture, not a table: give its folder"
    if path.suffix.lower() in (".xlsx", ".xls", ".ods"):
        return "a spreadsheet: save it as CSV"
    packed = path.suffix.lower() in (".zip", ".tar", ".gz", ".tgz", ".xz", ".bz2", ".7z", ".rar")
    return "an archive, not a table: unpack it, and give the folder" if packed else "no format for tables"


def _text(path: Path) -> str:
    """The text of a file in UTF-8 or UTF-16; bytes that are not UTF-8 are kept, as in the names of files."""
    data = path.read_bytes()
    utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return data.decode("utf-16", "replace") if utf16 else data.decode("utf-8-sig", "surrogateescape")


def _read_csv(path: Path) -> Table:
    text, note = _text_of_csv(path)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(path, text), strict=True)
    names: list[str] = []
    rows: list[list[str]] = []
    try:
        for cells in filter(None, lines):
            if not names:
                names = [name.strip() for name in cells]
            elif any(cells):
                rows.append(_fitted(path, lines.line_num, cells, len(names)))
    except csv.Error as error:
        raise ZsadError(f"{path}, line {lines.line_num}: {error}; close each quote, and double those inside") from error
    return Table(path, names, [list(column) for column in zip(*rows, strict=True)], note=note)


def _text_of_csv(path: Path) -> tuple[str, str]:
    """The text of a file, and a note where it was saved in the encoding of Windows, as Excel does."""
    text = _text(path)
    header = text.partition("\n")[0]
    if text.isascii() or all(field in header for field in FIELDS):  # a manifest is in UTF-8
        return text, ""
    try:
        text.encode()
    except UnicodeEncodeError:
        with contextlib.suppress(UnicodeDecodeError):
            return path.read_bytes().decode("cp1252"), "read in the encoding cp1252, since it is not UTF-8"
    return text, ""


def _delimiter(path: Path, text: str) -> str:
    """What parts the names of the columns: the most frequent of a few in the first line."""
    first = next(filter(str.strip, io.StringIO(text)), "")
    return max("\t,;|" if path.suffix.lower() == ".tsv" else ",;\t|", key=first.count)


def _fitted(path: Path, line: int, cells: list[str], width: int) -> list[str]:
    if any(cells[width:]):
        what = f"{many(len(cells), 'value')} for {many(width, 'column')}"
        raise ZsadError(f'{path}, line {line}: {what}; put a name with the delimiter in it between " and "')
    return (cells + [""] * width)[:width]


def _read_jsonl(path: Path) -> Table:
    rows = []
    for number, line in enumerate(_text(path).split("\n"), 1):
        if line.strip():
            row = _parsed(line, f"{path}, line {number}")
            if not isinstance(row, dict):
                raise ZsadError(f'{path}, line {number}: expected {{"image": "a.png", ...}}; mend or remove the line')
            rows.append(row)
    return _transposed(path, rows)


def _read_json(path: Path) -> Table:
    text = _text(path)
    if _has_lines_of_json(text):
        return _read_jsonl(path)
    data = _parsed(text, str(path))
    if isinstance(data, list) and all(isinstance(row, dict) for row in data):
        return _transposed(path, data)
    return _transposed(path, flat(data, path), "meta.json")


def _has_lines_of_json(text: str) -> bool:
    """Whether the first of several lines is a row by itself, as in the files of UniAD that are called .json."""
    first, _, rest = text.strip().partition("\n")
    try:
        return bool(rest) and isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        return False


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ZsadError(f"{where}: no JSON ({error}); mend it, or write it again") from error


def _transposed(path: Path, rows: Sequence[Row], kind: str = "table") -> Table:
    names = list(dict.fromkeys(name for row in rows for name in row))
    return Table(path, names, [[row.get(name) for row in rows] for name in names], kind)


def _read_parquet(path: Path) -> Table:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names = [field.name for field in file.schema_arrow if _is_plain(field.type)]
            nested = tuple(field.name for field in file.schema_arrow if field.name not in names)
            table = file.read(columns=names)
    except (pyarrow.ArrowException, OSError) as error:
        raise ZsadError(f"{path}: cannot be read as Parquet ({error}); write it again") from error
    columns = [column.to_pylist() for column in table.columns]
    return Table(path, table.column_names, columns, nested=nested)


def _is_plain(kind: Any) -> bool:
    """Whether a column holds text or numbers; others, such as the images themselves, are not read."""
    from pyarrow import types

    value = kind.value_type if types.is_dictionary(kind) else kind  # categories of pandas
    plain = ("string", "large_string", "integer", "floating", "boolean", "null")
    return any(getattr(types, f"is_{name}")(value) for name in plain)


def _csv(rows: Sequence[Row], delimiter: str = ",") -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, rows[0], delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode("utf-8", "surrogateescape")


def _jsonl(rows: Sequence[Row]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _parquet(rows: Sequence[Row]) -> bytes:
    import pyarrow
    import pyarrow.parquet

    schema = pyarrow.schema([(name, pyarrow.int8() if name == "label" else pyarrow.string()) for name in rows[0]])
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema), sink)
    return bytes(sink.getvalue())


_READERS: Mapping[str, Callable[[Path], Table]] = {
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".json": _read_json,
}
_WRITERS: Mapping[str, Callable[[Sequence[Row]], bytes]] = {
    ".jsonl": _jsonl,
    ".parquet": _parquet,
    ".csv": _csv,
    ".tsv": partial(_csv, delimiter="\t"),
}
SUFFIXES = tuple(_READERS)  # of files that are read as tables
