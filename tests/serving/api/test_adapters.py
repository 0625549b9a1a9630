"""Adapters over HTTP: named like models, loaded and unloaded by administrators, never by paths."""

import asyncio
import threading
from functools import partial

import httpx
import openai
import pytest
import uvicorn

from mamba_slm.core.listening import listen
from mamba_slm.generation.text import generate_text
from mamba_slm.model.fingerprint import fingerprint
from mamba_slm.serving.adapters.loaded import load
from mamba_slm.serving.adapters.store import AdapterSettings, AdapterStore
from mamba_slm.serving.api.app import create_app
from mamba_slm.serving.api.service import ServedModel, Service
from mamba_slm.serving.engine.thread import Engine
from mamba_slm.text.chat import CHATML_TEMPLATE
from serving.adapters.adapted_engine import adapted_engine, merged
from serving.adapters.adapter_folders import write_adapter
from small_models import small_tokenizer, varied_model

TOKENIZER = small_tokenizer()
PROMPT = "def naïve("
SHOUTS = "{% for message in messages %}{{ message.content | upper }}{% endfor %}<|im_start|>"


def fresh_model():
    return varied_model(max_context_tokens=256).eval().requires_grad_(False)


class Served:
    """A server with a directory of adapters."""

    def __init__(self, folder):
        model = fresh_model()
        read = partial(
            load,
            model=model,
            base_fingerprint=fingerprint(model.config, model.state_dict()),
            tokenizer_fingerprint=TOKENIZER.fingerprint,
        )
        self.store = AdapterStore(AdapterSettings(folder=folder), lambda name, path: read(name, path))
        self.engine = Engine(adapted_engine(model, self.store, tokenizer=TOKENIZER).core)
        self.engine.start()
        described = ServedModel(
            name="small", tokenizer=TOKENIZER, context_tokens=256, template=CHATML_TEMPLATE, created=1
        )
        self.app = create_app(Service(engine=self.engine, model=described, adapters=self.store))
        self.socket = listen("127.0.0.1", 0)
        self.server = uvicorn.Server(uvicorn.Config(self.app, log_level="error", lifespan="off"))
        self.thread = threading.Thread(target=lambda: asyncio.run(self.server.serve(sockets=[self.socket])))
        self.thread.start()
        url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
        self.http = httpx.Client(base_url=url, timeout=300)

    def close(self):
        self.client.close()
        self.http.close()
        self.server.should_exit = True
        self.thread.join()
        self.engine.stop()
        self.socket.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served") / "adapters"
    write_adapter(folder / "poems", fresh_model(), seed=1)
    write_adapter(folder / "stories", fresh_model(), seed=2)
    (folder / "poems" / "chat_template.jinja").write_text(SHOUTS, encoding="utf-8")
    TOKENIZER.save(folder / "poems")
    return folder


@pytest.fixture(scope="module")
def served(folder):
    served = Served(folder)
    yield served
    served.close()


def text_of(served, name, **settings):
    made = served.client.completions.create(model=name, prompt=PROMPT, max_tokens=12, temperature=0, **settings)
    assert made.model == name
    return made.choices[0].text


def test_a_request_names_an_adapter_as_its_model_and_gets_what_the_merged_model_says(served, folder):
    expected = {
        name: generate_text(merged(fresh_model(), folder / name), TOKENIZER, [PROMPT], max_new_tokens=12)[0][0].text
        for name in ("poems", "stories")
    }
    assert expected["poems"] != expected["stories"]
    for name, text in expected.items():
        assert text_of(served, name) == text
        streamed = served.client.completions.create(
            model=name, prompt=PROMPT, max_tokens=12, temperature=0, stream=True
        )
        assert "".join(chunk.choices[0].text for chunk in streamed) == text
    assert text_of(served, "small") not in expected.values()


def test_the_list_of_models_tells_which_adapters_belong_to_which_model(served):
    listed = {model.id: model.parent for model in served.client.models.list()}
    assert listed == {"small": None, "poems": "small", "stories": "small"}
    assert served.client.models.retrieve("poems").id == "poems"
    with pytest.raises(openai.NotFoundError, match="did you mean 'poems'"):
        served.client.completions.create(model="poem", prompt="a")


def test_an_adapter_with_a_chat_template_of_its_own_is_asked_in_it(served):
    def tokens(name):
        asked = served.client.chat.completions.create(
            model=name, messages=[{"role": "user", "content": "a"}], max_tokens=2
        )
        return asked.usage.prompt_tokens

    assert tokens("poems") < tokens("stories") == tokens("small")


def test_adapters_are_loaded_and_unloaded_by_name(served, folder):
    def post(path, **body):
        return served.http.post(f"/v1/{path}", json=body)

    write_adapter(folder / "new", fresh_model(), seed=9)
    with pytest.raises(openai.NotFoundError):  # nobody offered it yet
        text_of(served, "new")
    done = post("load_lora_adapter", lora_name="new")
    assert (done.status_code, done.text) == (200, "Success: LoRA adapter 'new' added successfully.")
    assert text_of(served, "new")
    again = post("load_lora_adapter", lora_name="new")
    assert again.status_code == 400 and "loaded already" in again.json()["error"]["message"]
    assert post("load_lora_adapter", lora_name="new", load_inplace=True).status_code == 200
    done = post("unload_lora_adapter", lora_name="new")
    assert (done.status_code, done.text) == (200, "Success: LoRA adapter 'new' removed successfully.")
    with pytest.raises(openai.NotFoundError):
        text_of(served, "new")
    assert post("unload_lora_adapter", lora_name="new").status_code == 404


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"lora_name": "stories", "lora_path": "/etc"}, 400, "lora_path is refused"),
        ({"lora_name": "../adapters/stories"}, 404, "unknown adapter"),
        ({"lora_name": "nothing"}, 404, "poems, stories"),
        ({"lora_name": "small"}, 400, "the name of the base model"),
        ({"lora_name": ""}, 400, "lora_name"),
        ({"lora_name": 3}, 400, "lora_name"),
        ({}, 400, "lora_name"),
    ],
)
def test_what_cannot_be_loaded_is_refused_in_the_form_of_openai(served, body, status, says):
    answer = served.http.post("/v1/load_lora_adapter", json=body)
    assert answer.status_code == status and says in answer.json()["error"]["message"]


def test_only_administrators_load_and_unload(served):
    async def ask():
        transport = httpx.ASGITransport(served.app, client=("192.0.2.7", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return [
                (await client.post(f"/v1/{verb}_lora_adapter", json={"lora_name": "stories"})).status_code
                for verb in ("load", "unload")
            ]

    assert asyncio.run(ask()) == [403, 403]
    assert "stories" in served.store.names
