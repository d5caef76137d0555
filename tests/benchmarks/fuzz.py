"""2,000 damaged files through `load_interactions` and `load_movielens`: how many are refused, mended with a note, or read without one.

`python -m tests.benchmarks.fuzz [how many]`; tests/test_fuzz.py runs a few hundred of the same. A file is *refused* by a ValueError or
FileNotFoundError that names the file or the column. Whatever is accepted has every row of the file, rows being
counted here without the library. What is accepted may have the *same table*, a *note* on what was mended, or *other values*:
one digit turned into another, which no reader can see without a checksum."""
import csv
import io
import re
import sys
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from llmrec.data.dataset import load_interactions
from llmrec.data.movielens import load_movielens

N_FILES = 2_000


# The sound files, all made up

def make_tables(rng, n_ratings=60):
    """Ratings (each pair once) and films as text, titles with commas, quotation marks and letters beyond ASCII."""
    words = ["Night", "Tram", "Café", "Über", "Snow, Falling", "Noir", 'The "Last" Bus', "Élan"]
    pairs = rng.permutation(12 * 20)[:n_ratings]
    ratings = [(1 + pair // 20, 101 + pair % 20, rng.integers(1, 6), 978_300_000 + int(rng.integers(10**6))) for pair in pairs]
    films = [(101 + i, f"{rng.choice(words)} {rng.choice(words)} ({1950 + i})", rng.choice(["Drama", "Comedy|Drama", "(no genres listed)"])) for i in range(20)]
    return [list(map(str, row)) for row in ratings], [list(map(str, row)) for row in films]


def write_csv(header, rows):
    """A table as CSV in UTF-8."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue().encode()


def make_files(kind, rng):
    """The files of one kind of source: {name: content}."""
    ratings, films = make_tables(rng)
    ours = ["user_id", "item_id", "rating", "timestamp"]
    titles = {film[0]: film[1] for film in films}
    if kind == "csv":
        return {"ratings.csv": write_csv(ours, ratings)}
    if kind == "csv with titles":
        return {"ratings.csv": write_csv([*ours, "title"], [[*row, titles[row[1]]] for row in ratings])}
    if kind == "csv and items":
        return {"ratings.csv": write_csv(ours, ratings), "items.csv": write_csv(["item_id", "title", "genres"], films)}
    if kind == "parquet":
        frame = pd.DataFrame([[*row, titles[row[1]]] for row in ratings], columns=[*ours, "title"])
        buffer = io.BytesIO()
        frame.astype({"user_id": int, "item_id": int, "rating": float, "timestamp": int}).to_parquet(buffer)
        return {"ratings.parquet": buffer.getvalue()}
    if kind.startswith("1m"):
        return {"ratings.dat": "".join("::".join(row) + "\n" for row in ratings).encode(),
                "movies.dat": "".join("::".join(row) + "\n" for row in films).encode("latin-1")}
    if kind.startswith("100k"):
        genres = ["unknown", "Comedy", "Drama"]
        items = ["|".join([i, title, "01-Jan-1995", "", "", *("1" if g in f.split("|") else "0" for g in genres)]) for i, title, f in films]
        return {"u.data": "".join("\t".join(row) + "\n" for row in ratings).encode(), "u.item": ("\n".join(items) + "\n").encode("latin-1"),
                "u.genre": "".join(f"{genre}|{n}\n" for n, genre in enumerate(genres)).encode() + b"\n"}
    return {"ratings.csv": write_csv(["userId", "movieId", "rating", "timestamp"], ratings), "movies.csv": write_csv(["movieId", "title", "genres"], films)}


KINDS = ["csv", "csv with titles", "csv and items", "parquet", "latest-small", "latest-small zip", "1m", "1m zip", "100k", "100k zip"]


# The damage

def flip_bits(data, rng):
    """One to four bits, anywhere."""
    data = bytearray(data)
    for bit in rng.integers(8 * len(data), size=rng.integers(1, 5)):
        data[bit // 8] ^= 1 << int(bit % 8)
    return bytes(data)


def truncate(data, rng):
    """The beginning only."""
    return data[:rng.integers(len(data))]


def overwrite(data, rng):
    """Up to 20 random bytes in place of others, or between them."""
    at, noise = rng.integers(len(data)), rng.bytes(rng.integers(1, 21))
    return data[:at] + noise + data[at + len(noise) * int(rng.integers(2)):]


def cut_out(data, rng):
    """A piece from the middle is missing."""
    first, last = sorted(rng.integers(len(data), size=2))
    return data[:first] + data[last:]


def double_separators(data, rng):
    """Some separators stand twice."""
    return re.sub(rb"::|[,|\t]", lambda found: found[0] * (1 + (rng.random() < .02)), data)


def exchange_separators(data, rng):
    """Another separator everywhere."""
    return re.sub(rb"::|[,|\t]", rng.choice([b";", b"\t", b",", b"|", b" ", b"::"]), data)


def shuffle_columns(data, rng):
    """Columns in another order, in all lines or, as a mislabelled file has them, in the first only."""
    separator = next(s for s in (b"::", b"\t", b"|", b",") if s in data)
    lines = data.split(b"\n")
    order = rng.permutation(lines[0].count(separator) + 1)
    mislabelled = rng.random() < .5
    for n, line in enumerate(lines[:1] if mislabelled else lines):
        cells = line.split(separator)
        lines[n] = separator.join(cells[i] for i in order) if len(cells) == len(order) else line
    return b"\n".join(lines)


def encode_otherwise(data, rng):
    """The same text in another encoding, whatever that cannot write being a question mark."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    return text.encode(rng.choice(["utf-8", "utf-8-sig", "latin-1", "cp1252", "utf-16", "utf-16-le", "utf-32", "gb18030", "shift_jis", "cp500"]), "replace")


def scramble_lines(data, rng):
    """Lines repeated, lost line ends, other line ends, empty lines."""
    lines = data.split(b"\n")
    ends = rng.choice([b"\n", b"\r\n", b"\r", b"\n\n", b"\n \n"], size=len(lines)) if rng.random() < .5 else [b"" if rng.random() < .03 else b"\n" for _ in lines]
    again = [line if rng.random() < .95 else line + b"\n" + line for line in lines]
    return b"".join(line + end for line, end in zip(again, ends))


def stray_quotes(data, rng):
    """Quotation marks where cells begin or end."""
    return re.sub(rb"::|[,|\t\n]", lambda found: found[0] + b'"' * (rng.random() < .02), data)


ANY = [flip_bits, truncate, overwrite, cut_out]
TEXT = [*ANY, double_separators, exchange_separators, shuffle_columns, encode_otherwise, scramble_lines, stray_quotes]


# The judgement

def count_rows(data, header, separator):
    """Rows of a table as a line counter sees them; where quotation marks may join lines, as Python's lenient csv module sees them."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    lines = csv.reader(io.StringIO(text, newline="")) if '"' in text and separator == "," else ([line] for line in re.split(r"\r\n|\r|\n", text))
    return sum(any(cell.strip() for cell in line) for line in lines) - header


def expected_rows(folder, kind):
    """Rows of the ratings and of the films (None: they are not in a file of their own)."""
    if kind == "parquet":
        return pq.ParquetFile(folder / "ratings.parquet").metadata.num_rows, None
    if kind.endswith("zip"):
        with zipfile.ZipFile(folder / "ml.zip") as packed:
            files = {Path(name).name: packed.read(name) for name in packed.namelist()}
    else:
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
    names = {"1m": ("ratings.dat", "movies.dat"), "100k": ("u.data", "u.item")}.get(kind.split()[0], ("ratings.csv", "movies.csv" if "latest" in kind else "items.csv"))
    header, separator = names[0].endswith("csv"), "," if names[0].endswith("csv") else "\t"
    return tuple(count_rows(files[name], header, separator) if name in files else None for name in names)


def swallowed_rows(folder, kind):
    """Whether quotation marks join lines of a table into one cell, as Python's lenient csv module sees it."""
    tables = [path.read_bytes() for path in folder.iterdir() if path.suffix == ".csv"] if kind != "parquet" else []
    if kind == "latest-small zip":
        with zipfile.ZipFile(folder / "ml.zip") as packed:
            tables = [packed.read(name) for name in packed.namelist()]
    rows = (csv.reader(io.StringIO(data.decode("latin-1"), newline="")) for data in tables)
    return any("\n" in cell or "\r" in cell for table in rows for row in table for cell in row)


def counted(data, words):
    """The sum of the counts of the notes that have these words."""
    return sum(int(note.split()[0].replace(",", "")) for note in data.notes if words in note)


def load(folder, kind):
    """Read what lies in the folder, as a user would."""
    if kind == "parquet":
        return load_interactions(folder / "ratings.parquet")
    if kind.startswith("csv"):
        return load_interactions(folder / "ratings.csv", folder / "items.csv" if "items" in kind else None)
    return load_movielens(kind.split()[0], folder / "ml.zip" if kind.endswith("zip") else folder)


def same_table(data, sound):
    """Whether two Datasets hold the same, in whatever order of rows and columns."""
    pairs = [(data.interactions, sound.interactions, ["user_id", "item_id"]), (data.items, sound.items, ["item_id"])]
    return all(set(a) == set(b) and a.sort_values(key)[sorted(a)].reset_index(drop=True).equals(b.sort_values(key)[sorted(b)].reset_index(drop=True))
               for a, b, key in pairs)


def judge(folder, kind, sound):
    """What became of the damaged file; AssertionError if it is neither a clear refusal nor a full account."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            data = load(folder, kind)
    except (ValueError, FileNotFoundError) as error:
        message = str(error)
        assert type(error) in (ValueError, FileNotFoundError), repr(error)
        assert error.__suppress_context__ or error.__context__ is None, f"shows an error from below: {message}"
        assert re.match(rf"(path|column|interactions|items|{re.escape(str(folder))}\S*):? ", message), f"names neither file nor column: {message}"
        assert "\n" not in message and len(message) < 1_000, message
        return "refused"
    ratings, films = expected_rows(folder, kind)
    assert len(data.interactions) == ratings, f"{len(data.interactions)} of {ratings} rows, {data.notes}"
    assert films is None or len(data.items) - counted(data, "not in the items table") == films, f"{len(data.items)} of {films} items, {data.notes}"
    assert data.interactions.notna().all(axis=None) or "event" in data.interactions, "cells are missing"
    assert not swallowed_rows(folder, kind) or any("hold line breaks" in note for note in data.notes), f"rows became one cell, {data.notes}"
    if set(data.notes) - set(sound.notes):
        return "read with a note"
    return "same table" if same_table(data, sound) else "other values"


def fuzz(number, folder):
    """Make, damage and judge file `number` in an empty folder: (kind, damage, outcome)."""
    rng = np.random.default_rng([3, number])
    kind = KINDS[number % len(KINDS)]
    files, folder = make_files(kind, rng), Path(folder)

    def put(files):
        if kind.endswith("zip"):
            buffer = io.BytesIO()
            with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
                for name, content in files.items():
                    packed.writestr(f"ml/{name}", content)
            files = {"ml.zip": buffer.getvalue()}
        for name, content in files.items():
            (folder / name).write_bytes(content)

    put(files)
    sound = load(folder, kind)
    whole = kind == "parquet" or (kind.endswith("zip") and rng.random() < .5)  # the file itself is damaged, or a member before packing
    damage = (ANY if whole else TEXT)[rng.integers(len(ANY if whole else TEXT))]
    if whole:
        target = folder / ("ml.zip" if kind.endswith("zip") else "ratings.parquet")
        target.write_bytes(damage(target.read_bytes(), rng))
    else:
        target = list(files)[rng.integers(min(2, len(files)))]
        put(files | {target: damage(files[target], rng)})
    return kind, damage.__name__.replace("_", " "), judge(folder, kind, sound)


def main(n_files=N_FILES):
    started, outcomes, failed = time.perf_counter(), Counter(), []
    for number in range(n_files):
        with tempfile.TemporaryDirectory() as folder:
            try:
                outcomes[fuzz(number, folder)] += 1
            except Exception as error:
                failed.append(f"file {number} ({KINDS[number % len(KINDS)]}): {type(error).__name__}: {error}")
    table = pd.DataFrame([(*key, n) for key, n in outcomes.items()], columns=["source", "damage", "outcome", "files"])
    for by in ("source", "damage"):
        print(table.pivot_table("files", by, "outcome", "sum", fill_value=0, margins=True, margins_name="all").to_string(), "\n")
    print(*failed[:20], f"{n_files:,} files in {time.perf_counter() - started:.0f} s; neither refused clearly nor accounted for: {len(failed)}", sep="\n")
    return len(failed)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else N_FILES) > 0)
