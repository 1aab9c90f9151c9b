"""The stand-in login service: one token for the right client, 401 for any other."""

import asyncio
import json
import sys
from pathlib import Path
from urllib.parse import parse_qs

from aiohttp import web

from bench.site import HOST


async def _serve(facts: dict[str, str]) -> None:
    async def token(request: web.Request) -> web.Response:
        fields = {name: values[0] for name, values in parse_qs(await request.text()).items()}
        if (fields.get("client_id"), fields.get("client_secret")) != (facts["client_id"], facts["client_secret"]):
            return web.json_response({"error": "invalid_client"}, status=401)
        answer = {"access_token": facts["token"], "token_type": "Bearer", "expires_in": 86_400}
        return web.json_response(answer)

    application = web.Application()
    application.router.add_post("/oauth/token", token)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, HOST, int(facts["port"])).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(json.loads(Path(sys.argv[1]).read_text())))
