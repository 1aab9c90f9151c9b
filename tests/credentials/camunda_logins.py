"""Cookie logins that behave as Camunda's versions do: Spring Security's form login and CSRF filter, in small.

Written from Camunda's public sources (BaseWebConfigurer of Operate and Tasklist, WebSecurityConfig of 8.8 and later).
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from aiohttp import web

USER, PASSWORD = "demo", "pass+word/ü&="
SAFE = {"GET", "HEAD", "OPTIONS", "TRACE"}


@dataclass
class Session:
    """One session: its cookie's value and the CSRF token, raw and masked (Spring's defence against BREACH)."""

    cookie: str
    token: str
    masked: str


@dataclass
class CamundaLogin:
    """A server with a login and an API at /v1/thing; subclasses are versions."""

    path: str = "/api/login"
    session_cookie: str = "OPERATE-SESSION"
    csrf: str | None = None
    sessions: dict[str, Session] = field(default_factory=dict)
    logins: list[web.Request] = field(default_factory=list)
    pages: int = 0

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_post(self.path, self.login)
        app.router.add_get(self.path, self.page)
        app.router.add_route("*", "/v1/thing", self.api)
        return app

    async def page(self, request: web.Request) -> web.StreamResponse:
        raise web.HTTPMethodNotAllowed("GET", ["POST"])

    async def login(self, request: web.Request) -> web.StreamResponse:
        self.logins.append(request)
        fields = dict(await request.post()) or dict(request.query)
        if (fields.get("username"), fields.get("password")) != (USER, PASSWORD):
            return web.json_response({"message": "Invalid credentials"}, status=401)
        session = self.begin()
        response = web.Response(status=204)
        response.headers.add("Set-Cookie", f"{self.session_cookie}={session.cookie}; Path=/; HttpOnly; SameSite=Lax")
        self.give_token(response, session)
        return response

    def begin(self) -> Session:
        session = Session(secrets.token_hex(16), secrets.token_hex(8), secrets.token_urlsafe(24))
        self.sessions[session.cookie] = session
        return session

    def give_token(self, response: web.StreamResponse, session: Session) -> None:
        if self.csrf is not None:
            response.headers.add("Set-Cookie", f"{self.csrf}={session.token}; Path=/; HttpOnly")
            response.headers[self.csrf] = session.masked

    def token_is_right(self, request: web.Request, session: Session) -> bool:
        assert self.csrf is not None
        return request.cookies.get(self.csrf) == session.token and request.headers.get(self.csrf) == session.masked

    async def api(self, request: web.Request) -> web.StreamResponse:
        session = self.sessions.get(request.cookies.get(self.session_cookie, ""))
        if session is None:
            return web.json_response({"message": "not authenticated"}, status=401)
        if self.csrf is not None and request.method not in SAFE and not self.token_is_right(request, session):
            return web.Response(status=403)
        return web.json_response({"ok": True})


def operate_8_4() -> CamundaLogin:
    """No CSRF token."""
    return CamundaLogin()


def operate_8_5() -> CamundaLogin:
    """Its own header, which wants the masked token, and the cookie beside it."""
    return CamundaLogin(csrf="OPERATE-X-CSRF-TOKEN")


class TokenOnlyInCookie(CamundaLogin):
    """The cookie alone; the header is then the cookie's value."""

    def give_token(self, response: web.StreamResponse, session: Session) -> None:
        response.headers.add("Set-Cookie", f"{self.csrf}={session.token}; Path=/")

    def token_is_right(self, request: web.Request, session: Session) -> bool:
        assert self.csrf is not None
        return request.cookies.get(self.csrf) == session.token == request.headers.get(self.csrf)


def tasklist_8_6() -> CamundaLogin:
    """Tasklist's names."""
    return TokenOnlyInCookie(session_cookie="TASKLIST-SESSION", csrf="TASKLIST-X-CSRF-TOKEN")


class RotatesAtLogin(CamundaLogin):
    """Spring deletes the token of the time before the login, and sets the new one in the same answer."""

    def give_token(self, response: web.StreamResponse, session: Session) -> None:
        response.headers.add("Set-Cookie", f"{self.csrf}=; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Path=/")
        super().give_token(response, session)


def camunda_8_8() -> CamundaLogin:
    """One login for Operate, Tasklist and the orchestration cluster."""
    return RotatesAtLogin(path="/login", session_cookie="camunda-session", csrf="X-CSRF-TOKEN")


@dataclass
class LoginWantsToken(RotatesAtLogin):
    """The login itself is protected: 401 without a token, which GET /login hands out."""

    before: dict[str, str] = field(default_factory=dict)

    async def page(self, request: web.Request) -> web.StreamResponse:
        self.pages += 1
        token, masked = secrets.token_hex(8), secrets.token_urlsafe(24)
        self.before[token] = masked
        response = web.Response(text="<html>login</html>", content_type="text/html")
        response.headers.add("Set-Cookie", f"{self.csrf}={token}; Path=/")
        response.headers[str(self.csrf)] = masked
        return response

    async def login(self, request: web.Request) -> web.StreamResponse:
        token = request.cookies.get(str(self.csrf), "")
        if self.before.get(token, "?") != request.headers.get(str(self.csrf)):
            self.logins.append(request)
            detail = "Invalid CSRF Token 'null' was found on the request parameter '_csrf' or header 'X-CSRF-TOKEN'."
            return web.json_response({"status": 401, "detail": detail}, status=401)
        return await super().login(request)


def camunda_later() -> CamundaLogin:
    """After 8.9: a token for the login, and a cookie's name with the tenant in it."""
    return LoginWantsToken(path="/login", session_cookie="camunda-session-default-root", csrf="X-CSRF-TOKEN")


VERSIONS = {maker.__name__: maker for maker in (operate_8_4, operate_8_5, tasklist_8_6, camunda_8_8, camunda_later)}
