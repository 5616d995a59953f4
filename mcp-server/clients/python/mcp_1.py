"""`mcp` 1.x: the session over each of its transports."""

import os

from going_round import Answer, go_round, main, server
from mcp import ClientSession, StdioServerParameters
from mcp.client.sse import sse_client
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamablehttp_client

program, url, headers = server()


async def session(streams):
    async with streams as (reading, writing, *_), ClientSession(reading, writing) as client:
        await client.initialize()

        async def call(tool, arguments):
            answer = await client.call_tool(tool, arguments)
            return Answer(answer.isError, answer.structuredContent)

        await go_round([tool.name for tool in (await client.list_tools()).tools], call)


def stdio():
    return session(stdio_client(StdioServerParameters(command=program, args=["stdio"], env=dict(os.environ))))


main({
    "stdio": stdio,
    "http": lambda: session(streamablehttp_client(f"{url}/mcp", headers=headers)),
    "sse": lambda: session(sse_client(f"{url}/sse", headers=headers)),
})
