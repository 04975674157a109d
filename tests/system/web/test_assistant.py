"""An assistant searches an archive by MCP: a real client, a real process."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import anyio
import pytest

from stopcli.tasks.samples import copy_samples


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("samples") / "videos"
    list(copy_samples(folder))
    return folder


def talk(videos, tmp_path, work, *options):
    """Start the server, let a client do its work, and return what that returns."""
    from mcp import StdioServerParameters, stdio_client
    from mcp.client import Client

    words = ["-m", "stopcli", "mcp", str(videos), "--model", "mini", "--device", "cpu", *map(str, options)]
    environment = {"STOPCLI_HOME": str(tmp_path / "home"), "PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"}

    async def main():
        server = StdioServerParameters(command=sys.executable, args=words, env=environment)
        async with Client(stdio_client(server)) as client:
            return await work(client)

    return anyio.run(main)


async def call(client, name, **arguments):
    answer = await client.call_tool(name, arguments)
    texts = [json.loads(c.text) if c.text[:1] in "{[" else c.text for c in answer.content if c.type == "text"]
    return answer.is_error, texts, answer


async def indexed(client):
    for _ in range(600):
        _, (status,), _ = await call(client, "list_videos")
        if status["moments"] == 8:
            return
        await anyio.sleep(0.2)
    raise AssertionError(status)


def test_it_finds_looks_classifies_and_saves(videos, tmp_path):
    async def work(client):
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(tools) == {
            "search_videos", "find_similar", "show_moment", "classify_moment", "list_videos", "save_moment",
        }  # fmt: skip
        assert all(tool.description for tool in tools.values())
        await indexed(client)
        _, (found,), _ = await call(client, "search_videos", query="a rocket moving up", top_k=3)
        first = found["moments"][0]
        assert first["path"].endswith("a-rocket-moving-up.mp4")
        assert first["confidence"] > 0.9
        _, _, seen = await call(client, "show_moment", moment=first["id"])
        assert [c.mime_type for c in seen.content] == ["image/jpeg"] * 3
        _, named, _ = await call(
            client, "classify_moment", moment=first["id"], labels=["a rocket moving up", "a dog moving left"]
        )
        assert named[0]["label"] == "a rocket moving up"
        _, (like,), _ = await call(client, "find_similar", moment=first["id"])
        assert first["id"] not in [m["id"] for m in like["moments"]]
        wrong, (clip,), _ = await call(client, "save_moment", moment=first["id"])
        assert not wrong
        return clip

    clip = talk(videos, tmp_path, work, "--clips", tmp_path / "clips")
    assert Path(clip).parent == tmp_path / "clips"
    assert Path(clip).stat().st_size > 1000


def test_it_reads_and_writes_nothing_else(videos, tmp_path):
    async def work(client):
        assert "save_moment" not in {tool.name for tool in (await client.list_tools()).tools}
        await indexed(client)
        for name, arguments in (
            ("show_moment", {"moment": "../../etc/passwd"}),
            ("show_moment", {"moment": "0123456789abcdef-0-1000"}),
            ("find_similar", {"moment": "x"}),
            ("search_videos", {"query": " "}),
            ("search_videos", {"query": "a", "min_confidence": 7}),
            ("classify_moment", {"moment": "x", "labels": ["a", "b"]}),
            ("save_moment", {"moment": "x"}),
        ):
            wrong, (words, *_), _ = await call(client, name, **arguments)
            assert wrong, name
            assert "Traceback" not in str(words)
        wrong, (found,), _ = await call(client, "search_videos", query="a dog", top_k=10**9)
        assert not wrong
        assert len(found["moments"]) <= 100

    talk(videos, tmp_path, work)
