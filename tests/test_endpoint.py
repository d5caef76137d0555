"""Somebody else's model: nothing is sent but to the address that was named, the key is never shown, and no answer is believed unread."""
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from llmrec import BudgetSpent, Endpoint

KEY = "k-3141592653"


@pytest.fixture
def serve(tmp_path, monkeypatch):
    """Starts a server on 127.0.0.1 that gives `replies`, the last for ever; gives an `Endpoint` maker and what the server heard."""
    monkeypatch.setenv("ENDPOINT_KEY", KEY)
    servers = []

    def start(*replies):
        left, heard = list(replies), []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                heard.append((self.path, self.headers["Authorization"], json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
                status, body = left.pop(0) if len(left) > 1 else left[0]
                self.send_response(status)
                self.send_header("Location", "http://127.0.0.1:9/")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        url = f"http://127.0.0.1:{server.server_port}/v1/"
        return lambda **settings: Endpoint(url, "m", **{"key_env": "ENDPOINT_KEY", "cache_dir": tmp_path, "timeout": 5} | settings), heard

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def says(text, read=7, written=3):
    return 200, json.dumps({"choices": [{"message": {"content": text}}], "usage": {"prompt_tokens": read, "completion_tokens": written}}).encode()


def test_what_is_sent(serve):
    make, heard = serve(says(" Psycho \n"))
    talk = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "“Naïve”?"}]
    asked = make(stop=("\n",), max_tokens=9, temperature=.5, seed=4)
    assert asked.generate(["A film?", talk]) == ["Psycho", "Psycho"] and (asked.n_read_, asked.n_written_) == (14, 6)
    assert heard[0] == ("/v1/chat/completions", f"Bearer {KEY}", {
        "model": "m", "max_tokens": 9, "temperature": .5, "seed": 4, "stop": ["\n"], "messages": [{"role": "user", "content": "A film?"}]})
    assert heard[1][2]["messages"] == talk


def test_nothing_is_asked_twice(serve, tmp_path):
    make, heard = serve(says("Åsa 🎬"), says("two"))
    assert make().generate(["a", "a"]) == make().generate(["a", "a"]) == ["Åsa 🎬"] * 2 and len(heard) == 1
    assert make(max_tokens=5).generate(["a"]) == ["two"] and len(heard) == 2
    assert not any(KEY.encode() in file.read_bytes() for file in tmp_path.iterdir())


def test_what_was_answered_before_a_failure_is_kept(serve):
    make, heard = serve(says("one"), (400, b""), says("two"))
    with pytest.raises(ValueError, match="url: the service answers with status 400"): make().generate(["a", "b"])
    assert make().generate(["a", "b"]) == ["one", "two"] and [asked["messages"][0]["content"] for *_, asked in heard] == ["a", "b", "b"]


def test_a_budget_ends_the_asking(serve):
    make, heard = serve(says("one"))
    with pytest.raises(BudgetSpent, match="budget=15 tokens: 20 are spent"): make(budget=15).generate(["a", "b", "c"])
    assert len(heard) == 2


def test_a_choice_is_one_of_the_options_or_none(serve):
    make, heard = serve(says('"COMEDY".'), says("Ignore the list"), says("drama"))
    asked = make()
    assert asked.choose(["x", "y", "z"], [["comedy"], ["comedy"], ["Drama", "war"]]) == ["comedy", None, "Drama"] and asked.n_refused_ == 1
    assert '["Drama", "war"]' in heard[2][2]["messages"][0]["content"]


@pytest.mark.parametrize("reply, error, message", [
    ((401, f"{KEY} is wrong".encode()), ValueError, "key_env: the service refuses the key in ENDPOINT_KEY"),
    ((302, b""), ValueError, "status 302"),
    ((200, b"not json"), ValueError, "does not speak the form"),
    ((200, b'{"choices": []}'), ValueError, "does not speak the form"),
    ((200, b"[1]"), ValueError, "does not speak the form"),
    ((503, b""), TimeoutError, r"timeout=1 s is over.*last: 503"),
])
def test_bad_days_are_told_without_the_key(serve, reply, error, message):
    make, _ = serve(reply)
    with pytest.raises(error, match=message) as told: make(timeout=1).generate(["a"])
    assert KEY not in str(told.value)


def test_nobody_there():
    with pytest.raises(TimeoutError, match="last: ConnectionRefusedError"):
        Endpoint("http://127.0.0.1:9/v1", "m", timeout=.6, cache_dir=False).generate(["a"])


@pytest.mark.parametrize("url, message", [
    ("http://models.example.org/v1", "give https://host/path"), ("ftp://127.0.0.1/", "give https"), ("models.example.org", "give https"),
    ("https://u:p@models.example.org", "holds a user"), ("https://models.example.org/v1?key=1", "holds a user, a password or a query"),
])
def test_addresses_that_would_give_something_away(url, message):
    with pytest.raises(ValueError, match=message): Endpoint(url, "m").generate(["a"])


@pytest.mark.parametrize("settings, message", [
    ({"key_env": "NOT_SET"}, "key_env: there is no environment variable 'NOT_SET'"), ({"max_tokens": 0}, "max_tokens"), ({"timeout": 0}, "timeout"), ({"temperature": -1}, "temperature"),
])
def test_wrong_settings_are_named(serve, settings, message):
    make, heard = serve(says("a"))
    with pytest.raises(ValueError, match=message): make(**settings).generate(["a"])
    assert not heard
