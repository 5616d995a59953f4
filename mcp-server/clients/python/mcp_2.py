"""`mcp` 2.x: `Client`, which negotiates the revision itself, over each of its transports."""

import os

import httpx2
from going_round import Answer, go_round, main, server
from mcp import Client, StdioServerParameters
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

program, url, headers = server()


async def talk(to):
    async with Client(to) as client:

        async def call(tool, arguments):
            answer = await client.call_tool(tool, arguments)
            return Answer(answer.is_error, answer.structured_content)

        await go_round([tool.name for tool in (await client.list_tools()).tools], call)


async def http():
    async with httpx2.AsyncClient(headers=headers, timeout=60) as client:
        await talk(streamable_http_client(f"{url}/mcp", http_client=client))


main({
    "stdio": lambda: talk(StdioServerParameters(command=program, args=["stdio"], env=dict(os.environ))),
    "http": http,
    "sse": lambda: talk(sse_client(f"{url}/sse", headers=headers)),
})
