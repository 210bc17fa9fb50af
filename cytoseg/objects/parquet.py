"""Copying cells.csv to Parquet."""

from pathlib import Path

from cytoseg.csv_table import FORMULA
from cytoseg.errors import PredictionError
from cytoseg.objects.cell_table import NO_RATIO, SHARE, SHARED

PARQUET = "cells.parquet"

_WHOLE = ("id", "cytoplasm_id", "nuclei", "area_px", SHARE)
_NAME = "class"
_TEXT = (_NAME, SHARED, NO_RATIO)
_INERT = FORMULA.replace(")", ")'", 1)


def check_parquet() -> None:
    """Check that Parquet can be written.

    Raises:
        PredictionError: If pyarrow is not installed.
    """
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise PredictionError(
            "objects.parquet: Parquet needs pyarrow. Install it with: pip install 'cytoseg[parquet]'"
        ) from error


def write_parquet(table: Path, path: Path, *, columns: tuple[str, ...]) -> None:
    """Convert a CSV table of objects in chunks of a few megabytes; an empty cell becomes null.

    Args:
        table: ``cells.csv``.
        path: Output file.
        columns: Names of its columns, in order.

    Raises:
        OSError: If the disk is full.
    """
    import pyarrow as pa
    from pyarrow import compute, csv, parquet

    whole = dict.fromkeys(_WHOLE, pa.int64())
    schema = pa.schema([(name, pa.string() if name in _TEXT else whole.get(name, pa.float64())) for name in columns])
    options = csv.ConvertOptions(column_types=schema, strings_can_be_null=False)
    # One thread and a fixed chunk size: the same table gives the same bytes.
    reading = csv.ReadOptions(use_threads=False, block_size=2**22)
    with (
        csv.open_csv(table, read_options=reading, convert_options=options) as rows,
        parquet.ParquetWriter(path, schema, compression="zstd") as writer,
    ):
        for batch in rows:
            # The apostrophe against formulas is for spreadsheets only.
            names = compute.replace_substring_regex(batch[_NAME], pattern=_INERT, replacement=r"\1\2")
            writer.write_batch(batch.set_column(batch.schema.names.index(_NAME), _NAME, names))
