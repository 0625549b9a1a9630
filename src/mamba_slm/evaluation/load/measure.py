"""A whole run: what the server is, then every level, with what the client itself cost the machine."""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

from mamba_slm.core.errors import CheckFailedError, SetupError
from mamba_slm.evaluation.load.connection import Address, BrokenAnswerError, Connections
from mamba_slm.evaluation.load.drive import PATHS, run_level
from mamba_slm.evaluation.load.prompts import MakeBody, SyntheticPrompts, dataset_bodies
from mamba_slm.evaluation.load.sample import ask
from mamba_slm.evaluation.load.settings import Level, LoadSettings
from mamba_slm.evaluation.load.summary import summary

CALIBRATION_WORDS = 256
"""Of the first prompt, whose tokens the server counts."""
FORMAT_VERSION = 1


def measure_load(
    url: str,
    settings: LoadSettings,
    *,
    model: str | None = None,
    headers: Mapping[str, str] | None = None,
    about: dict[str, Any] | None = None,
    say: Callable[[str], None],
    save: Callable[[dict[str, Any]], None] = lambda results: None,
) -> dict[str, Any]:
    """Put every level of load on the server at `url`, one after the other.

    Args:
        model: the name to ask for; None: the first that the server lists.
        headers: of every request; Authorization is not stored.
        about: what the results depend on besides.
        save: called with what there is, again after every level.

    Raises:
        SetupError: nobody answers there.
        CheckFailedError: the server answers the first request with an error.
    """
    return asyncio.run(_measured(url, settings, model, headers or {}, about or {}, say, save))


async def _measured(
    url: str,
    settings: LoadSettings,
    model: str | None,
    headers: Mapping[str, str],
    about: dict[str, Any],
    say: Callable[[str], None],
    save: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    connections = Connections(Address.of(url), headers)
    try:
        model = model or await first_model(connections)
        prompts = body_maker(settings)

        def make(level: str, number: int) -> dict[str, Any]:
            return {"model": model, **prompts(level, number)}

        await first_answer(connections, settings, model, prompts, say)
        stored = asdict(settings) | {"dataset": str(settings.dataset) if settings.dataset else None}
        results: dict[str, Any] = {
            "format_version": FORMAT_VERSION,
            **about,
            "url": url,
            "model": model,
            "settings": stored,
            "levels": [],
        }
        for level in settings.levels:
            results["levels"].append(await _one_level(connections, settings, level, make))
            say(in_words(results["levels"][-1]))
            save(results)
        return results
    finally:
        connections.close()


async def _one_level(connections: Connections, settings: LoadSettings, level: Level, make: MakeBody) -> dict[str, Any]:
    gc.collect()
    gc.disable()  # a pause of the client would look like one of the server
    try:
        cpu, wall = cpu_seconds(), time.perf_counter()
        samples = await run_level(connections, settings, level, make)
        share = (cpu_seconds() - cpu) / (time.perf_counter() - wall)
    finally:
        gc.enable()
    named = {"level": level.in_words(settings.arrivals), "concurrency": level.concurrency, "rate": level.rate}
    return {**named, **summary(samples), "client_cores": share}


def body_maker(settings: LoadSettings) -> MakeBody:
    """Made up, or from the file of the settings."""
    return SyntheticPrompts(settings) if settings.dataset is None else dataset_bodies(settings.dataset, settings)


async def first_answer(
    connections: Connections, settings: LoadSettings, model: str, prompts: MakeBody, say: Callable[[str], None]
) -> None:
    """One request before everything: whether it works at all, and how many tokens words have here.

    Raises:
        CheckFailedError: it does not work; says how.
    """
    words = min(CALIBRATION_WORDS, settings.prompt_tokens[1])
    counted = replace(settings, prompt_tokens=(words, words), output_tokens=(1, 1), shared_share=0.0)
    first = SyntheticPrompts(counted) if isinstance(prompts, SyntheticPrompts) else prompts
    path = connections.address.path + PATHS[settings.endpoint]
    body = {"model": model, "temperature": 0, **first("first", 0)}
    sample = await ask(connections, path, body, due=time.perf_counter(), timeout_seconds=settings.timeout_seconds)
    if sample.error is not None:
        raise CheckFailedError(
            f"the server at {connections.address.host}:{connections.address.port} answers {path} with: {sample.error}",
            hint="--endpoint chat or completions chooses another address, --name another model",
        )
    if isinstance(prompts, SyntheticPrompts) and settings.vocab_size is None:
        prompts.calibrate(words, sample.prompt_tokens)
        say(f"a word of the made-up prompts has {prompts.tokens_per_word:.2f} tokens here")


async def first_model(connections: Connections) -> str:
    """The first name of `/models`.

    Raises:
        SetupError: nobody answers, or not as OpenAI's API does.
    """
    place = f"{connections.address.host}:{connections.address.port}"
    try:
        answer, writer = await connections.send("GET", f"{connections.address.path}/models")
        raw = await answer.body()
        connections.give_back(answer, writer)
        if answer.status != 200:
            raise SetupError(
                f"{place} answers {connections.address.path}/models with status {answer.status}",
                hint="401 and 403 ask for a key: --api-key-env NAME; the URL goes up to and with /v1",
            )
        return str(json.loads(raw)["data"][0]["id"])
    except (OSError, BrokenAnswerError) as error:
        raise SetupError(
            f"no server answers at {place}: {error}", hint="mamba-slm serve MODEL --port N starts one"
        ) from error
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise SetupError(
            f"{place} does not list its models as OpenAI's API does", hint="the URL goes up to and with /v1"
        ) from error


def cpu_seconds() -> float:
    """Of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def in_words(level: dict[str, Any]) -> str:
    """A level in a line, while others are still to come."""
    if not level["answered"]:
        return f"{level['level']}: none of {level['requests']} requests was answered: {level['errors']}"
    return (
        f"{level['level']}: {level['new_tokens_per_second']:,.0f} new tokens/s, first token after "
        f"{1e3 * level['ttft']['p50']:,.0f} ms, in {level['seconds']:.0f} s"
    )
