"""`fastmcp`'s client over each of its transports."""

import os

from fastmcp import Client
from fastmcp.client.transports import SSETransport, StdioTransport, StreamableHttpTransport
from going_round import Answer, go_round, main, server

program, url, headers = server()


async def talk(transport):
    async with Client(transport) as client:

        async def call(tool, arguments):
            answer = await client.call_tool(tool, arguments, raise_on_error=False)
            return Answer(answer.is_error, answer.structured_content)

        await go_round([tool.name for tool in await client.list_tools()], call)


main({
    "stdio": lambda: talk(StdioTransport(program, ["stdio"], env=dict(os.environ), keep_alive=False)),
    "http": lambda: talk(StreamableHttpTransport(f"{url}/mcp", headers=headers)),
    "sse": lambda: talk(SSETransport(f"{url}/sse", headers=headers)),
})
