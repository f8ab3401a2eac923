"""Parquet files that may be anybody's, and damaged: read within bounds, and with the checksums of their pages checked.

A few kilobytes can unpack to more than any memory: one long string that a million rows refer to, or zeros that zstd has
packed. Format: Apache Parquet, https://parquet.apache.org/docs/file-format/.
"""

import io
from collections.abc import Iterator
from typing import Any

import pyarrow
import pyarrow.compute
import pyarrow.parquet

compute: Any = pyarrow.compute  # its functions are made when it is imported, where no type checker sees them

ROWS_PER_BATCH = 2**13
# A row of ours has 150 bytes, of which a hash's 32 and an id's one or two cannot be packed.
MAX_SWELLING, ALWAYS_ALLOWED = 64, 2**26


def write_table(table: pyarrow.Table, file: Any, **options: Any) -> None:
    """Writes a table with a checksum of every page: nothing else tells turned bits from numbers."""
    pyarrow.parquet.write_table(table, file, write_page_checksum=True, **options)


def open_file(content: bytes, schema: pyarrow.Schema) -> pyarrow.parquet.ParquetFile:
    """Opens a file that has the columns of a schema, each once and of that kind.

    Raises:
        ValueError: It has not, or it swells; the message goes on from the file's name.
        pyarrow.ArrowException: It is no Parquet file.
        OSError: Likewise.
    """
    file = pyarrow.parquet.ParquetFile(io.BytesIO(content))
    names = file.schema_arrow.names
    if missing := [name for name in schema.names if name not in names]:
        raise ValueError(f"lacks the columns {missing}")
    for field in schema:
        if names.count(field.name) > 1:
            raise ValueError(f"has the column {field.name!r} twice")
        found = file.schema_arrow.field(field.name).type
        if not _is_like(found, field.type):
            raise ValueError(f"has {found} in the column {field.name!r}, where {field.type} is needed")
    groups = [file.metadata.row_group(index) for index in range(file.metadata.num_row_groups)]
    parts = [group.column(index) for group in groups for index in range(group.num_columns)]
    if sum(group.num_rows for group in groups) != file.metadata.num_rows:
        raise ValueError("has another number of rows than it says: damaged")
    _require_size(sum(part.total_uncompressed_size for part in parts), content)
    _require_size(sum(8 * part.num_values for part in parts), content)
    texts = [name for name in schema.names if _is_text(file.schema_arrow.field(name).type)]
    options = {"read_dictionary": texts, "page_checksum_verification": True}
    return pyarrow.parquet.ParquetFile(io.BytesIO(content), metadata=file.metadata, **options)


def read_batches(content: bytes, schema: pyarrow.Schema) -> Iterator[pyarrow.RecordBatch]:
    """Yields the columns of a schema from a file, a few thousand rows at once.

    Raises:
        ValueError: As `open_file` does.
        pyarrow.ArrowException: It is no Parquet file, or damaged.
        OSError: Likewise.
    """
    num_bytes = num_rows = 0
    with open_file(content, schema) as file:
        for batch in file.iter_batches(ROWS_PER_BATCH, columns=schema.names):
            num_bytes += sum(_unpacked_size(batch[name]) for name in schema.names)
            _require_size(num_bytes, content)
            num_rows += batch.num_rows
            yield batch.select(schema.names).cast(schema)
        if num_rows != file.metadata.num_rows:
            raise ValueError(f"has {num_rows} rows, and says that it has {file.metadata.num_rows}: damaged")


def _is_text(found: pyarrow.DataType) -> bool:
    types = pyarrow.types
    kind = found.value_type if types.is_dictionary(found) else found
    return types.is_string(kind) or types.is_large_string(kind)


def _is_like(found: pyarrow.DataType, wanted: pyarrow.DataType) -> bool:
    types = pyarrow.types
    if types.is_string(wanted):
        return _is_text(found) or types.is_null(found)
    if types.is_list(wanted):
        is_empty = types.is_list(found) and types.is_null(found.value_type)
        return types.is_list(found) and not is_empty and _is_like(found.value_type, wanted.value_type)
    is_kind = next(kind for kind in (types.is_floating, types.is_boolean, types.is_integer) if kind(wanted))
    return is_kind(found) or types.is_null(found)


def _unpacked_size(column: pyarrow.Array) -> int:
    if not pyarrow.types.is_dictionary(column.type):
        return column.nbytes
    lengths = compute.binary_length(column.dictionary).take(column.indices)
    return compute.sum(lengths).as_py() or 0


def _require_size(num_bytes: int, content: bytes) -> None:
    if num_bytes > MAX_SWELLING * len(content) + ALWAYS_ALLOWED:
        raise ValueError(f"has {len(content):,} bytes and unpacks to {num_bytes:,} or more, as no file of ours does")
