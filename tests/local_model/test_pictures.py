"""The real program and the real client: what it says depends on what is in the picture."""

import json
from collections.abc import AsyncIterator
from io import BytesIO
from typing import Any

import openai
import pytest
import requests
from PIL import Image

from local_model.answer import STAND_IN
from local_model.tokens import image_tokens, split
from tests.local_model.asking import DATA, EXAMPLES, about, image_part, text_part
from tests.local_model.conftest import LocalModel


@pytest.fixture
async def client(local_model: LocalModel) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=local_model.base_url, api_key="unused", max_retries=0) as client:
        yield client


async def ask(client: openai.AsyncOpenAI, messages: list[dict[str, Any]], **options: Any) -> Any:
    create: Any = client.chat.completions.create
    return await create(model="gpt-5.4-mini", messages=messages, **options)


@pytest.mark.parametrize(
    ("name", "question", "parts"),
    [
        (
            "worksheet.png",
            "What is y in the second equation?",
            ["a PNG of 800 × 560 pixels", "“Algebra worksheet 4”", "2y − 4 = 10", "**y = 7**"],
        ),
        ("worksheet.png", "What is x?", ["2x = 12", "**x = 6**"]),
        ("worksheet.png", "Please calculate number 2.", ["= 27 − 6 = **21**"]),
        ("handwriting.png", "Can you solve this?", ["“3x-7=11”", "photosynthesis", "**x = 6**"]),
        (
            "chart.png",
            "Which class read the most books?",
            ["“Books read per class”", "“18”, “12”, “9”", "white, with red, blue and green"],
        ),
        (
            "phone.jpg",
            "What is its speed?",
            ["a JPEG of 1200 × 1600 pixels", "“A train travels 150 km”", "150 ÷ 2.5 = **60**"],
        ),
        ("triangle.webp", "What is the base?", ["a WebP of 800 × 600", "points to “base 8 cm”", "cannot reason"]),
        ("vocabulary.gif", "How do you say house?", ["a GIF of 700", "points to “la maison = the house”"]),
        ("landscape.png", "What do you see?", ["blue, with green and yellow", "no text"]),
    ],
)
async def test_answer_depends_on_the_picture(
    client: openai.AsyncOpenAI, name: str, question: str, parts: list[str]
) -> None:
    completion = await ask(client, about((DATA / name).read_bytes(), question))
    answer = completion.choices[0].message.content
    assert answer.startswith(STAND_IN)
    assert [part for part in parts if part not in answer] == [], answer


@pytest.mark.parametrize("degrees", [90, 180, 270])
async def test_page_is_read_whichever_way_it_lies(client: openai.AsyncOpenAI, degrees: int) -> None:
    buffer = BytesIO()
    with Image.open(DATA / "worksheet.png") as page:
        page.rotate(degrees, expand=True).save(buffer, "PNG")
    answer = (await ask(client, about(buffer.getvalue(), "What is x?"))).choices[0].message.content
    assert "It reads: “Algebra worksheet 4”, “1. Solve for x: 2x + 5 = 17”" in answer
    assert "**x = 6**" in answer


async def test_stream_and_completion_give_the_same_answer_and_counts(client: openai.AsyncOpenAI) -> None:
    messages = about((EXAMPLES / "homework.png").read_bytes(), "What is x in the first equation?")
    whole = await ask(client, messages)
    stream = await ask(client, messages, stream=True, stream_options={"include_usage": True})
    chunks = [chunk async for chunk in stream]
    *deltas, last = chunks
    pieces = [delta.choices[0].delta.content for delta in deltas if delta.choices[0].delta.content]
    assert deltas[0].choices[0].delta.role == "assistant"
    assert "".join(pieces) == whole.choices[0].message.content
    assert deltas[-1].choices[0].finish_reason == whole.choices[0].finish_reason == "stop"
    assert last.choices == []
    assert last.usage == whole.usage
    assert last.usage.completion_tokens == len(pieces)
    assert len({chunk.id for chunk in chunks}) == 1


async def test_prompt_tokens_are_those_of_the_texts_and_the_picture(client: openai.AsyncOpenAI) -> None:
    usage = (await ask(client, about((DATA / "chart.png").read_bytes(), "Which class?"))).usage
    texts = ("You are a tutor.", "Subject: math", "Which class?")
    assert usage.prompt_tokens == sum(len(split(text)) for text in texts) + image_tokens(900, 640)
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


@pytest.mark.parametrize("limit", ["max_completion_tokens", "max_tokens"])
async def test_limit_cuts_the_answer_and_says_so(client: openai.AsyncOpenAI, limit: str) -> None:
    completion = await ask(client, about(None, "What is 1 + 1?"), **{limit: 7})
    assert completion.choices[0].message.content == "".join(split(STAND_IN)[:7])
    assert completion.choices[0].finish_reason == "length"
    assert completion.usage.completion_tokens == 7


async def test_last_picture_and_last_question_of_a_conversation_count(client: openai.AsyncOpenAI) -> None:
    worksheet, chart = (DATA / "worksheet.png").read_bytes(), (DATA / "chart.png").read_bytes()
    messages = [
        *about(worksheet, "What is x?"),
        {"role": "assistant", "content": "x = 6"},
        {"role": "user", "content": [image_part(chart), text_part("And this?")]},
        {"role": "assistant", "content": "A chart."},
        {"role": "user", "content": "Which class read 18 books?"},
    ]
    answer = (await ask(client, messages)).choices[0].message.content
    assert "Books read per class" in answer
    assert "Algebra" not in answer
    assert "points to “Books read per class”" in answer


async def test_model_is_listed(client: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in client.models.list()] == ["studyai-local"]


async def test_client_library_understands_the_refusal_of_a_broken_picture(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refusal:
        await ask(client, about((DATA / "broken" / "truncated.jpg").read_bytes(), "What is this?"))
    assert refusal.value.code == "image_parse_error"


def test_wire_is_that_of_openai(local_model: LocalModel) -> None:
    options = {"stream": True, "stream_options": {"include_usage": True}, "max_completion_tokens": 2}
    body = {"model": "m", "messages": about(None, "Hi"), **options}
    with requests.post(f"{local_model.base_url}/chat/completions", json=body, timeout=5) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = response.content.decode().split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    *chunks, last = [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]
    assert [chunk["choices"] for chunk in chunks] == [
        [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}]
        for delta, reason in (
            ({"role": "assistant", "content": "", "refusal": None}, None),
            ({"content": "I"}, None),
            ({"content": " am"}, None),
            ({}, "length"),
        )
    ]
    assert {(chunk["object"], chunk["usage"]) for chunk in chunks} == {("chat.completion.chunk", None)}
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 2


def test_example_body_asks_about_the_example_picture(local_model: LocalModel) -> None:
    example = json.loads((EXAMPLES / "ask.json").read_text())
    url = f"data:image/png;base64,{example['base64_image']}"
    parts = [text_part(example["prompt"]), {"type": "image_url", "image_url": {"url": url}}]
    body = {"model": "m", "messages": [{"role": "user", "content": parts}]}
    reply = requests.post(f"{local_model.base_url}/chat/completions", json=body, timeout=5).json()
    assert "**x = 5**" in reply["choices"][0]["message"]["content"]
    assert (EXAMPLES / "ask.json").stat().st_size < 100_000
