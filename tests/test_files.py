"""Files from strangers are read whole or refused by name, and what goes wrong leaves nothing behind."""
import errno
import hashlib
import http.server
import io
import signal
import stat
import subprocess
import sys
import threading
import zipfile

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmrec.data import files
from llmrec.data.files import Limits, fetch, read_csv, read_member, read_table, split_rows, write_whole

RATINGS = b"userId,movieId,rating,timestamp\n" + b"1,2,3.5,978300760\n" * 50


def refusal(call, kind=ValueError):
    """The message of a refusal of this kind, on one line and without an error from below."""
    with pytest.raises(Exception) as caught:
        call()
    error = caught.value
    assert type(error) is kind and (error.__suppress_context__ or error.__context__ is None), repr(error)
    assert "\n" not in str(error) and len(str(error)) < 1000
    return str(error)


def write_zip(path, members, **more):
    """Write a zip of {name or ZipInfo: content}."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members.items():
            packed.writestr(name, content, **more)
    return path


# Tables

@pytest.mark.parametrize("text, part", [
    ("a,b\n1\n", "line 2 has 1 cells, the first has 2"), ("a,b\n1,2\n1,2,3\n", "line 3 has 3"), ("a\n1,2\n", "line 2"), ("\n\n", "is empty"),
    ('a,b\n1,"x"y\n', "line 2"), ('a,b\n1,"x\n2,y\n', "line 3"), ('a,b\n1,"x\n2,"y"\n', "line 3"),
])
def test_uneven_and_badly_quoted_tables_are_refused(text, part):
    message = refusal(lambda: split_rows(text, "some.csv"))
    assert "some.csv" in message and part in message


def test_tables_keep_what_they_say():
    assert split_rows('a,b\r\n"1\n2","say ""hi"""\r\n \r\n5" disk,\r\n', "x") == [["a", "b"], ["1\n2", 'say "hi"'], ['5" disk', None]]
    assert split_rows('1::"Quoted", and::x\n2::a:b::y', "x", "::") == [["1", '"Quoted", and', "x"], ["2", "a:b", "y"]]
    assert split_rows("a\n \nb\n", "x") == [["a"], [" "], ["b"]], "in one column a blank cell is a cell"
    assert "control characters" in refusal(lambda: split_rows("1::a\x1fb\n", "x", "::"))


def test_a_file_that_may_be_cut_short_is_noted(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"a,b\n1,2\n1,2")
    frame, notes = read_csv(tmp_path / "a.csv")
    assert len(frame) == 2 and notes == ["a.csv does not end with a line break: its last row may be cut short"]
    assert read_csv("named.csv", b"a,b\n1,2\n")[1] == []


@pytest.mark.parametrize("text, n", [('a,b\n1,"x\n2,y\n3,z"\n4,w\n', 1), ('a,b\r1,"x\r2,y"\r"3\n",w\r', 2)])
def test_balanced_quotation_marks_that_swallow_rows_are_noted(text, n):
    assert [note for note in read_csv("a.csv", text.encode())[1] if note.startswith(f"{n} cells of a.csv hold line breaks, the first 'x")]


@pytest.mark.parametrize("text", ["a,b\n1,2,3\n4,5,6\n", "a,b\n1,2,\n4,5,\n", "a\n1,2\n"])
def test_rows_longer_than_the_header_never_move_into_the_index(text):
    assert "the first has" in refusal(lambda: read_csv("a.csv", text.encode()))


def test_a_table_without_a_header_has_the_columns_that_are_expected():
    assert read_csv("u.data", b"1\t2\n", "\t", ["a", "b"])[0].to_dict("records") == [{"a": "1", "b": "2"}]
    assert "expected 3: a, b, c" in refusal(lambda: read_csv("u.data", b"1\t2\n", "\t", ["a", "b", "c"]))


def test_parquet_text_that_is_not_text_is_refused(tmp_path):
    """pyarrow reads it; only a later touch of that row would fail."""
    broken = pa.StringArray.from_buffers(2, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe"))
    pq.write_table(pa.table({"user_id": broken, "item_id": [1, 2]}), tmp_path / "a.parquet")
    assert "a.parquet" in refusal(lambda: read_table(tmp_path / "a.parquet"))


# Folders and zips

def test_a_member_is_read_from_a_folder_or_a_zip(tmp_path):
    (tmp_path / "ratings.csv").write_bytes(RATINGS)
    packed = write_zip(tmp_path / "a.zip", {"ml/": b"", "ml/ratings.csv": RATINGS, "ml/README.txt": b"", "__MACOSX/ml/._ratings.csv": b"?"})
    before = sorted(tmp_path.iterdir())
    assert read_member(tmp_path, "ratings.csv") == read_member(packed, "ratings.csv") == RATINGS
    assert sorted(tmp_path.iterdir()) == before
    for path in (tmp_path, packed):
        message = refusal(lambda: read_member(path, "tags.csv"), FileNotFoundError)
        assert str(path) in message and "no tags.csv" in message and "ratings.csv" in message
    assert "there is no folder or zip" in refusal(lambda: read_member(tmp_path / "b.zip", "x"), FileNotFoundError)
    assert read_member(write_zip(tmp_path / "c.zip", {"ml\\ratings.csv": RATINGS}), "ratings.csv") == RATINGS, "as some Windows tools write it"


def link(name):
    """The entry of a symbolic link, as Info-ZIP writes it."""
    entry = zipfile.ZipInfo(name)
    entry.create_system, entry.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return entry


@pytest.mark.parametrize("entry", ["../ratings.csv", "ml/../../x", "/etc/x", "C:/x", "..\\x", "\\x", link("ml/ratings.csv"), link("elsewhere")],
                         ids=lambda entry: getattr(entry, "filename", entry))
def test_a_zip_that_leads_out_of_its_folder_is_refused(entry, tmp_path):
    path = write_zip(tmp_path / "a.zip", {"ml/tags.csv": RATINGS, entry: b"../../secret"})
    message = refusal(lambda: read_member(path, "tags.csv"))
    assert "leads out of its folder" in message and str(path) in message and list(tmp_path.iterdir()) == [path]


def test_a_zip_that_grows_too_large_is_refused(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"ratings.csv": b"1,2\n" * 500_000, "other.csv": b"\0" * 40_000_000})
    assert len(read_member(path, "ratings.csv")) == 2_000_000, "what is not read may be as large as it likes"
    for limits, part in ((Limits(max_bytes=1_000_000), "max_bytes: .*ratings.csv holds at least 2,000,000 bytes, more than 1,000,000; if you trust it, raise max_bytes"),
                         (Limits(max_rows=499_999), "max_rows: .*ratings.csv holds at least 500,000 rows, more than 499,999; if you trust it, raise max_rows")):
        with pytest.raises(ValueError, match=part):
            read_member(path, "ratings.csv", limits)
    assert "raise max_ratio" in refusal(lambda: read_member(path, "other.csv")) and len(read_member(path, "other.csv", Limits(max_ratio=10_000))) == 40_000_000


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_packed_by_another_method_is_refused(method, tmp_path):
    path = write_zip(tmp_path / "a.zip", {"ratings.csv": RATINGS}, compress_type=method)
    assert f"by method {method}" in refusal(lambda: read_member(path, "ratings.csv"))


def test_a_member_longer_or_shorter_than_it_says_is_refused(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"ratings.csv": b"\0" * 2_000_000})
    for size in (0, 1_000, 3_000_000):
        data = path.read_bytes().replace((2_000_000).to_bytes(4, "little"), size.to_bytes(4, "little"))
        (tmp_path / "b.zip").write_bytes(data)
        assert "not a whole zip" in refusal(lambda: read_member(tmp_path / "b.zip", "ratings.csv"))


def test_damaged_zips_are_refused(tmp_path):
    whole = write_zip(tmp_path / "a.zip", {"ratings.csv": RATINGS}).read_bytes()
    path = tmp_path / "b.zip"
    for data in (b"", b"no zip", whole[:-10], whole[:len(whole) // 2], whole[:60] + bytes([whole[60] ^ 4]) + whole[61:]):
        path.write_bytes(data)
        message = refusal(lambda: read_member(path, "ratings.csv"))
        assert str(path) in message and "not a whole zip" in message
    write_zip(path, {"1/ratings.csv": RATINGS, "2/ratings.csv": RATINGS})
    assert "2 files ratings.csv" in refusal(lambda: read_member(path, "ratings.csv"))


# Writing and fetching

def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    write_whole(tmp_path / "a" / "b", b"old")
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(tmp_path / "a" / "b", b"new")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"] and (tmp_path / "a" / "b").read_bytes() == b"old"


WRITE = """
import resource, signal, sys
from llmrec.data.files import write_whole
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
if sys.argv[2] == "killed": signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
write_whole(sys.argv[1], bytes(1_000_000))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="this system cannot stop a process in the middle of a write")
@pytest.mark.parametrize("how", ["killed", "failed"])
def test_the_old_file_is_whole_when_the_write_breaks_off(how, tmp_path):
    """The system lets a process write 100,000 bytes of a million, and kills it or fails the write there."""
    path = tmp_path / "b"
    path.write_bytes(b"old")
    ended = subprocess.run([sys.executable, "-c", WRITE, path, how], capture_output=True, text=True)
    assert ended.returncode == -signal.SIGXFSZ if how == "killed" else "File too large" in ended.stderr, ended
    assert path.read_bytes() == b"old" and (how == "killed" or list(tmp_path.iterdir()) == [path])


def test_who_has_the_old_file_open_goes_on_reading_it(tmp_path):
    write_whole(tmp_path / "b", b"old" * 100_000)
    with open(tmp_path / "b", "rb") as held:
        write_whole(tmp_path / "b", b"new" * 100_000)
        assert held.read() == b"old" * 100_000 and (tmp_path / "b").read_bytes() == b"new" * 100_000


# Bombs

def dictionary(text, n):
    """A column of the same text n times, which stores it once."""
    return pa.DictionaryArray.from_arrays(pa.array([0] * n, "int32"), pa.array([text]))


def plain(n):
    """The two columns that every table has, with n rows."""
    return {"user_id": pa.repeat(1, n), "item_id": pa.repeat(2, n)}


def delta(path, n, text):
    """Texts that differ in their ends only, each stored as what differs."""
    table = pa.table(plain(n) | {"title": [f"{text}{i}" for i in range(n)]})
    pq.write_table(table, path, use_dictionary=False, column_encoding={"user_id": "PLAIN", "item_id": "PLAIN", "title": "DELTA_BYTE_ARRAY"})


BOMBS = {
    "rows.parquet": (lambda path: pq.write_table(pa.table(plain(60_000_000)), path), "max_rows"),
    "numbers.parquet": (lambda path: pq.write_table(pa.table(plain(40_000_000)), path), "max_ratio"),
    "texts.parquet": (lambda path: pq.write_table(pa.table(plain(4_000) | {"title": dictionary("x" * 10**6, 4_000)}), path, store_schema=False), "max_bytes"),
    "lists.parquet": (lambda path: pq.write_table(pa.table(plain(1) | {"genres": pa.ListArray.from_arrays([0, 4_000], dictionary("x" * 10**6, 4_000))}), path, store_schema=False), "max_bytes"),
    "records.parquet": (lambda path: pq.write_table(pa.table(plain(400_000) | {"mood": pa.StructArray.from_arrays([pa.repeat(True, 400_000)], ["good"])}), path), "max_ratio"),
    "numbers of a list.parquet": (lambda path: pq.write_table(pa.table(plain(1) | {"mood": pa.ListArray.from_arrays([0, 10**7], pa.repeat(1, 10**7))}), path), "max_ratio"),
    "pages.parquet": (lambda path: pq.write_table(pa.table(plain(20) | {"title": ["x" * 10**6] * 20}), path, use_dictionary=False, compression="zstd"), "max_ratio"),
    "differences.parquet": (lambda path: delta(path, 500, "x" * 10**5), "max_ratio"),
}
MEASURE = """
import resource, sys
from llmrec.data.files import read_table
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[1:]:
    before = peak()
    try: said = len(read_table(path)[0])
    except ValueError as error: said = error
    print(peak() - before, said, sep="\\t")
"""


def test_bombs_are_refused_before_they_take_memory(tmp_path):
    """Each would take hundreds of megabytes or more; the reader may take 300 for all of them together."""
    for name, (write, _) in BOMBS.items():
        write(tmp_path / name)
        assert (tmp_path / name).stat().st_size < 700_000, name
    ended = subprocess.run([sys.executable, "-c", MEASURE, *(tmp_path / name for name in BOMBS)], capture_output=True, text=True)
    lines = [line.split("\t") for line in ended.stdout.splitlines()]
    assert len(lines) == len(BOMBS), ended
    for (name, (_, setting)), (_, said) in zip(BOMBS.items(), lines):
        assert said.startswith(f"{setting}: ") and name in said and said.endswith(f"raise {setting}"), (name, said)
    assert sum(int(kilobytes) for kilobytes, _ in lines) < 300_000 * (1 if sys.platform == "linux" else 1024), lines


def test_a_trusted_file_is_read_with_higher_limits(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table(plain(100) | {"title": dictionary("x" * 10**6, 100)}), path, store_schema=False)
    assert "raise max_ratio" in refusal(lambda: read_table(path))
    assert read_table(path, limits=Limits(max_ratio=10**4))[0].title.str.len().tolist() == [10**6] * 100
    assert "raise max_rows" in refusal(lambda: read_table(path, limits=Limits(max_rows=99)))
    path = tmp_path / "a.csv"
    path.write_bytes(b"a,b\n" + b"1,2\n" * 99)
    assert len(read_table(path, limits=Limits(max_rows=100))[0]) == 99
    for limits, setting in ((Limits(max_rows=98), "max_rows"), (Limits(max_bytes=399), "max_bytes")):
        assert f"raise {setting}" in refusal(lambda: read_table(path, limits=limits))


def test_wide_rows_and_endless_lines_are_refused():
    assert "holds at least 125 rows, more than 100" in refusal(lambda: read_csv("a.csv", b"," * 999 + b"\n", limits=Limits(max_rows=100)))
    assert "line of more than 1 MiB" in refusal(lambda: read_csv("a.csv", b"a\n" + b"1" * 2**21 + b"\n"))
    assert len(read_csv("a.csv", b"a,b\n" + b"1,2\n" * 2**19)[0]) == 2**19


@pytest.mark.parametrize("name", ["max_rows", "max_bytes", "max_ratio"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "5", None, float("nan")])
def test_faulty_limits_are_refused(name, value):
    assert f"{name}: got {value!r}; give a whole number of at least 1" in refusal(lambda: Limits(**{name: value}))


def test_the_sizes_of_real_files_are_within_the_limits():
    """MovieLens 32M is the largest release: a row of its ratings has fewer than 30 characters, in memory 32 bytes."""
    for size in (30, 32):
        assert Limits().check("ratings", rows=32_000_204, size=size * 32_000_204, packed=239 * 10**6) is None


@pytest.mark.parametrize("column", [
    pa.array(["a", None, "c"]), pa.array(["a", None, "c"]).dictionary_encode(), pa.array([["a", "b"], None, []]), pa.array([{"x": "a"}, None, {"x": None}]), pa.array([b"a", None, b""]),
    pa.array([[["a"]], None, [[]]]), pa.array([[("k", "v")], None, []], pa.map_(pa.string(), pa.string())), pa.array([1.5, None, 2]), pa.array([True, None, False]), pa.nulls(3),
    pa.array(["a", None, "c"], pa.large_string()), pa.array(["a", None, "c"], pa.string_view()), pa.array([b"ab", None, b"cd"], pa.binary(2)),
], ids=lambda column: str(column.type)[:30])
def test_every_kind_of_column_is_measured_and_read_as_it_is(column, tmp_path):
    pq.write_table(pa.table({"x": column}), tmp_path / "a.parquet")
    pd.testing.assert_frame_equal(read_table(tmp_path / "a.parquet")[0], pq.read_table(tmp_path / "a.parquet").to_pandas())


@pytest.fixture
def serve():
    """A server on this machine: `serve(path)` is an address; /half breaks off, /missing is not there, /endless tells no length, /moved leads to it,
    /chunked sends pieces; `serve.asked` counts."""
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            serve.asked += 1
            self.send_response(404 if "missing" in self.path else 302 if "moved" in self.path else 200)
            header = {"moved": ("Location", "/ratings.csv"), "endless": None, "chunked": ("Transfer-Encoding", "chunked")}
            if (pair := header.get(self.path[1:], ("Content-Length", str(len(RATINGS))))):
                self.send_header(*pair)
            self.end_headers()
            if self.path == "/chunked":
                self.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(RATINGS), RATINGS))
            elif self.path != "/moved":
                self.wfile.write(RATINGS[:100] if "half" in self.path else RATINGS)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    serve = lambda path: f"http://127.0.0.1:{server.server_port}/{path}"
    serve.asked = 0
    yield serve
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("algorithm", ["md5", "sha256", None])
def test_a_file_is_fetched_once(algorithm, serve, tmp_path, capfd):
    checksum = algorithm and f"{algorithm}:{hashlib.new(algorithm, RATINGS).hexdigest()}"
    paths = {fetch(serve("ratings.csv"), checksum, tmp_path) for _ in range(3)}
    assert serve.asked == 1 and [path.read_bytes() for path in paths] == [RATINGS] and list(tmp_path.iterdir()) == list(paths)
    assert capfd.readouterr() == ("", ""), "no bar and no log where there is no terminal"


def test_without_a_checksum_the_server_must_say_where_the_file_ends(serve, tmp_path):
    message = refusal(lambda: fetch(serve("endless"), folder=tmp_path), ConnectionError)
    assert "does not say how long it is" in message and "give its checksum" in message and list(tmp_path.iterdir()) == []
    checksum = "sha256:" + hashlib.sha256(RATINGS).hexdigest()
    for path, known in (("endless", checksum), ("chunked", None), ("moved", None)):
        assert fetch(serve(path), known, tmp_path / path).read_bytes() == RATINGS


def test_a_damaged_copy_is_fetched_again(serve, tmp_path):
    checksum = "sha256:" + hashlib.sha256(RATINGS).hexdigest()
    fetch(serve("ratings.csv"), checksum, tmp_path).write_bytes(RATINGS[:-5])
    assert fetch(serve("ratings.csv"), checksum, tmp_path).read_bytes() == RATINGS and serve.asked == 2


def test_a_failed_download_leaves_nothing(serve, tmp_path):
    cases = [("half", None, ConnectionError, "did not come"), ("missing", None, ConnectionError, "404"), ("a", "sha256:" + "0" * 64, ValueError, "checksum sha256:0000"),
             ("a", "md5:" + "0" * 32, ValueError, "checksum md5:0000")]
    for path, checksum, kind, part in cases:
        message = refusal(lambda: fetch(serve(path), checksum, tmp_path), kind)
        assert part in message and serve(path) in message and "path=..." in message and list(tmp_path.iterdir()) == []
    for url in ("http://127.0.0.1:9/a.zip", "no address", "http://nowhere.invalid/a.zip"):
        assert "path=..." in refusal(lambda: fetch(url, folder=tmp_path), ConnectionError) and list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing(serve, tmp_path, monkeypatch):
    class Full(io.FileIO):
        def write(self, data):
            super().write(data[:10])
            raise OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr("pooch.downloaders.open", lambda path, mode: Full(path, "w"), raising=False)
    with pytest.raises(OSError, match="No space left on device; nothing was kept; .*path=") as caught:
        fetch(serve("a"), folder=tmp_path)
    assert caught.value.errno == errno.ENOSPC and list(tmp_path.iterdir()) == []
