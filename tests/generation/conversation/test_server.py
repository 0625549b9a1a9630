"""Promises of a chat with a server, against a real one on loopback that speaks OpenAI's streaming API."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mamba_slm.core.errors import ConfigError, DataError, SetupError
from mamba_slm.generation.conversation.reply_settings import ReplySettings
from mamba_slm.generation.conversation.server import ServerChat
from mamba_slm.generation.conversation.talk import Turn


class Handler(BaseHTTPRequestHandler):
    """Answers with the last message in capitals, a piece per word; what it was sent is kept in `server.sent`."""

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        self.server.sent.append((self.path, dict(self.headers), None))
        self.answer(200, {"data": self.server.models})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.sent.append((self.path, dict(self.headers), body))
        text = body["messages"][-1]["content"]
        if text.startswith("refuse"):
            return self.answer(400, {"error": {"message": "this is too long\nfor me"}})
        self.send_response(200)
        self.end_headers()
        if text == "nonsense":
            self.wfile.write(b"data: nonsense\n\n")
            return
        words = text.upper().split()
        for word in words:
            self.event({"choices": [{"delta": {"content": word + " "}}]})
        self.event({"choices": [{"delta": {}, "finish_reason": "length" if "long" in text else "stop"}]})
        usage = {"prompt_tokens": 10, "completion_tokens": len(words), "total_tokens": 10 + len(words)}
        self.event({"choices": [], "usage": usage})
        self.wfile.write(b": comment\n\ndata: [DONE]\n\n")

    def event(self, value):
        self.wfile.write(b"data: " + json.dumps(value).encode() + b"\n\n")

    def answer(self, code, value):
        if self.server.moved:
            self.send_response(302)
            self.send_header("Location", self.server.moved)
            self.end_headers()
            return
        data = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        made.sent, made.moved = [], None
        made.models = [{"id": "small", "max_model_len": 128}, {"id": "large"}]
        made.url = f"http://127.0.0.1:{made.server_port}/v1"
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def test_a_conversation_is_streamed_and_sent_whole_with_every_message(server):
    chat = ServerChat(server.url, system="be brief", settings=ReplySettings(temperature=0.5, top_k=7, stops=("x",)))
    assert (chat.name, chat.context_tokens) == ("small", 128)
    assert list(chat.respond("naïve words")) == ["NAÏVE ", "WORDS "]
    "".join(chat.respond("more"))
    _, _, body = server.sent[-1]
    assert body["messages"] == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "naïve words"},
        {"role": "assistant", "content": "NAÏVE WORDS "},
        {"role": "user", "content": "more"},
    ]
    assert (body["temperature"], body["top_k"], body["stop"], body["stream"]) == (0.5, 7, ["x"], True)
    assert "min_p" not in body
    assert chat.used_tokens == 11
    assert chat.timing.prefill_tokens == 20
    assert [turn.finish_reason for turn in chat.turns] == ["stop", "stop"]


def test_a_reply_in_one_piece_has_no_speed(server):
    chat = ServerChat(server.url, model="large")
    "".join(chat.respond("one"))
    assert chat.timing.decode_tokens == 0
    "".join(chat.respond("one two three"))
    assert chat.timing.decode_tokens > 0


def test_messages_can_be_taken_back_and_tried_again_with_another_seed(server):
    chat = ServerChat(server.url, model="large")
    "".join(chat.respond("one"))
    seed = server.sent[-1][2]["seed"]
    message = chat.undo().message
    "".join(chat.respond(message, attempt=1))
    assert server.sent[-1][2]["seed"] != seed
    assert server.sent[-1][2]["model"] == "large"
    assert len(chat.turns) == 1
    chat.resume([Turn(message="a", reply="b")], system="s", tokens_are_ours=False)
    "".join(chat.respond("c"))
    assert [one["content"] for one in server.sent[-1][2]["messages"]] == ["s", "a", "b", "c"]


def test_a_reply_that_was_cut_is_said_and_a_closed_one_stays_as_far_as_it_came(server):
    chat = ServerChat(server.url)
    "".join(chat.respond("a long one"))
    assert "stopped at --max-new-tokens" in chat.ended
    reply = chat.respond("one two three")
    next(reply)
    reply.close()
    assert chat.turns[-1] == Turn(message="one two three", reply="ONE ", finish_reason=None)


def test_a_refusal_is_said_and_changes_nothing(server):
    chat = ServerChat(server.url)
    with pytest.raises(ConfigError, match=r"refused \(400\): this is too long for me"):
        "".join(chat.respond("refuse this"))
    assert chat.turns == []
    with pytest.raises(DataError, match="no event of a chat"):
        "".join(chat.respond("nonsense"))


def test_a_key_goes_to_the_server_that_was_named_and_nowhere_else(server):
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as other:
        other.sent = []
        server.moved = f"http://127.0.0.1:{other.server_port}/v1/models"
        with pytest.raises(SetupError, match=r"refused \(302\)") as caught:
            ServerChat(server.url, api_key="secret-key")
        assert other.sent == []
    assert server.sent[-1][1]["Authorization"] == "Bearer secret-key"
    assert "secret" not in caught.value.message


def test_without_a_key_none_is_sent(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret-key")
    ServerChat(server.url)
    assert "Authorization" not in server.sent[-1][1]


def test_wrong_addresses_and_names_are_told_apart(server):
    with pytest.raises(ConfigError, match="no address of a server"):
        ServerChat("localhost:8000")
    with pytest.raises(ConfigError, match="has no model 'medium'") as caught:
        ServerChat(server.url, model="medium")
    assert "small, large" in caught.value.hint
    server.models = []
    with pytest.raises(ConfigError, match="does not list its models"):
        ServerChat(server.url)
    with pytest.raises(SetupError, match="does not answer"):
        ServerChat("http://127.0.0.1:9/v1")
