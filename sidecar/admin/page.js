"use strict";
// Everything that is told comes into the page as text (`append`, `setAttribute`) and never as markup.
const SHAPES = new Set(["svg", "path", "rect", "line", "circle"]);
const MARKS = {
  good: "M12 1a11 11 0 1 0 0 22a11 11 0 0 0 0-22z", warning: "M12 1.5L23.5 22.5H.5z", critical: "M7.5 1h9L23 7.5v9L16.5 23h-9L1 16.5v-9z",
  idle: "M12 3a9 9 0 1 0 0 18a9 9 0 0 0 0-18z",
};
const SIGNS = { good: "M7 12.5l3.5 3.5L17 9", warning: "M12 9v6M12 18.6v.2", critical: "M8.5 8.5l7 7M15.5 8.5l-7 7", idle: "" };
const WHOSE = { host: "this host", credential: "the credential", issuer: "the issuer", upstream: "the upstream", store: "the store" };
const WINDOW = 10, SOURCES = ["sidecar", "upstream", "client"], OUTCOMES = ["success", "failed", "throttled", "refused"];
const frames = {};
let told, now = 0, heard = 0, lost = "";

// --- making and changing elements
const h = (what, attributes, ...children) => {
  const [tag, ...classes] = what.split(".");
  const node = SHAPES.has(tag) ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  if (classes.length) node.setAttribute("class", classes.join(" "));
  for (const [name, value] of Object.entries(attributes ?? {})) if (value != null && value !== false) node.setAttribute(name, value);
  node.append(...children.flat(9).filter(child => child != null && child !== false && child !== ""));
  return node;
};
const morph = (old, next) => { // what has not changed stays, and with it focus, selection and a reader's place
  if (old.nodeName !== next.nodeName) return old.replaceWith(next);
  if (old.nodeType === 3) { if (old.data !== next.data) old.data = next.data; return; }
  for (const { name } of [...old.attributes]) if (!next.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of next.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  const before = [...old.childNodes], after = [...next.childNodes];
  after.forEach((child, index) => before[index] ? morph(before[index], child) : old.append(child));
  before.slice(after.length).forEach(child => child.remove());
};

// --- words
const span = seconds => {
  let left = Math.max(0, Math.round(seconds));
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const first = units.findIndex(([, size]) => left >= size);
  if (first < 0) return "0 s";
  return units.slice(first, first + 2).map(([unit, size]) => {
    const count = Math.floor(left / size);
    left %= size;
    return count ? `${count} ${unit}` : "";
  }).filter(Boolean).join(" ");
};
const clock = at => new Date(at * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const when = at => (now - at > 43200 ? new Date(at * 1000).toLocaleDateString("sv") + " " : "") + clock(at); // Swedish dates are ISO 8601
const ago = at => `${when(at)} (${span(now - at)} ago)`;
const count = (n, one, many = one + "s") => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
const share = part => part === 0 ? "0 %" : part < 0.001 ? "< 0.1 %" : `${(100 * part).toFixed(part < 0.1 ? 1 : 0)} %`;
const rate = n => n === 0 ? "0" : n < 0.1 ? "< 0.1" : n < 10 ? n.toFixed(1) : Math.round(n).toLocaleString("en");
const milliseconds = s => s == null ? "–" : s === Infinity ? "> 5 min" : s < 0.01 ? `${(s * 1000).toFixed(1)} ms` : s < 1 ? `${Math.round(s * 1000)} ms` : `${s.toFixed(1)} s`;
const brief = text => text.replace(/([0-9a-f]{8})-[0-9a-f-]{27}/gi, "$1…"); // a cluster's id: nobody reads 36 characters
const rich = text => text.split("`").map((part, index) => index % 2 ? h("code", null, part) : part);
const nameOf = token => token.credential + (token.audience ? ` for ${token.audience}` : "");

// --- parts
const mark = (tone, more = "") => h("svg.mark." + tone + more, { viewBox: "0 0 24 24", "aria-hidden": "true" },
  h("path", { d: MARKS[tone] }), SIGNS[tone] && h("path.on", { d: SIGNS[tone] }));
const copy = (text, words = "copy", what = text) => h("button", { type: "button", "data-copy": text, "aria-label": `${words} ${what}` }, words);
const command = text => h("div.command", null, h("code", null, text), copy(text));
const picture = (kind, box, label, ...shapes) => h("svg." + kind, { viewBox: box, preserveAspectRatio: "none", role: "img", "aria-label": label }, shapes);
const shorten = url => { // the whole is there to copy
  const short = brief(url).replace(/^https:\/\//, "");
  return short === url ? h("code", null, url) : h("button.short", { type: "button", "data-copy": url, title: `Copy ${url}` }, short);
};
const columns = (values, most) => values.map((value, x) => value ? `M${x} 24V${(24 - Math.max(1.5, 23 * value / most)).toFixed(1)}h1V24z` : "").join("");
const section = (title, aside, ...content) => h("section", { "aria-label": title }, h("h2", null, title, aside && h("small", null, aside)), content);
const hidden = name => told.hidden[name] && h("p.soft", null, `${told.hidden[name].toLocaleString("en")} more ${name} are not shown: /status has all.`);

// --- numbers
const sum = list => list.reduce((a, b) => a + b, 0);
const rowsOf = (name, last) => { // the newest is the last
  const newest = Math.floor(now / told.recent.step);
  return Array.from({ length: last }, (_, index) => frames[name]?.[newest - last + 1 + index] ?? []);
};
const added = rows => rows.filter(row => row.length).reduce((a, b) => a.length ? a.map((n, index) => n + b[index]) : b, []);
const answered = row => sum(row.slice(SOURCES.length));
const quantile = (row, q) => {
  const counts = row.slice(SOURCES.length), { bounds } = told.recent;
  let left = q * sum(counts);
  if (!left) return null;
  const index = counts.findIndex(n => (left -= n) <= 0), low = bounds[index - 1] ?? 0;
  return index === bounds.length ? Infinity : low + (bounds[index] - low) * (left + counts[index]) / counts[index];
};

// --- the answer
const problemRow = problem => h("li." + problem.severity, null, mark(problem.severity), h("div", null, brief(problem.what)),
  h("small", null, `Since ${ago(problem.since)} · cause: ${WHOSE[problem.whose]} · ${problem.code}`), h("div", null, rich(problem.cure)), problem.command && command(problem.command));
const wellSince = () => Math.max(told.status.started_at, ...told.recent.events.filter(event => event.kind === "over").map(event => event.at));
const banner = () => {
  if (lost) return h("section.banner.sheet.lost", { "aria-label": "The answer" }, h("div", null, mark("idle"), h("h2", null, "No answer from the sidecar"),
    h("p.words", null, lost), told && h("p.soft", null, `What follows is what it last said, at ${clock(now)}.`), command("camunda-sidecar status")));
  const { problems, routes, tokens } = told.status, [worst, ...others] = problems;
  if (!worst) {
    const whole = routes.map(route => added(rowsOf(route.name, WINDOW + 1)));
    const all = sum(whole.map(answered)), bad = sum(whole.map(row => sum(row.slice(0, 2))));
    return h("section.banner.sheet.good", { "aria-label": "The answer" }, h("div", null, mark("good"), h("h2", null, "All is well"),
      h("p", null, `No problem since ${when(wellSince())} (for ${span(now - wellSince())}).`),
      h("p.soft", null, `${count(routes.length + (told.hidden.routes ?? 0), "route")}, ${count(tokens.filter(token => token.expires_at > now).length, "token")} in use, ` +
        `${count(all, "request")} in the last five minutes, ${share(all ? bad / all : 0)} of them failed.`)));
  }
  const [, first, rest] = worst.what.match(/^(.*?[.!?])(?:\s+(.*))?$/s) ?? [null, worst.what];
  return h("section.banner.sheet." + worst.severity, { "aria-label": "The answer" }, h("div", null, mark(worst.severity), h("h2", null, brief(first)),
    h("p", null, h("strong", null, worst.severity === "critical" ? "Requests fail" : { draining: "It ends", not_ready: "It starts" }[worst.code] ?? "Requests are still served"), ` · since ${ago(worst.since)}`),
    rest && h("p.words", null, rest),
    h("p.whose", null, "Cause:", Object.entries(WHOSE).map(([key, words]) => h(key === worst.whose ? "span.it" : "span", key === worst.whose ? null : { "aria-hidden": "true" }, words))),
    h("p.words", null, rich(worst.cure)), worst.command && command(worst.command)),
    others.length > 0 && h("ul", { "aria-label": "Further problems" }, others.map(problemRow), told.hidden.problems && h("li", null, hidden("problems"))));
};

// --- routes
const tokenOf = route => told.status.tokens.find(token => token.credential === route.credential && (token.audience ?? "") === (route.audience ?? ""));
const health = (route, row) => {
  const token = tokenOf(route), { issuers, problems } = told.status;
  const about = whose => problems.find(problem => token && problem.whose === whose && problem.subject === nameOf(token));
  const issuer = token && issuers.find(one => token.issuer === one.issuer || token.issuer.startsWith(one.issuer + "/"));
  const credential = about("credential"), unanswered = about("issuer"), failing = problems.find(problem => problem.whose === "upstream" && problem.subject === route.name);
  const answers = answered(row), bad = answers ? row[1] / answers : 0;
  const dots = [
    ["token", ...!token ? ["idle", "none is needed"] : credential ? [credential.severity, "the credential is refused"]
      : token.expires_at > now ? ["good", token.state] : unanswered ? ["critical", "there is none"] : ["idle", "not wanted yet"]],
    ["issuer", ...!token ? ["idle", "none is needed"] : unanswered ? [unanswered.severity, "gives no token"] : issuer?.cooldown_until > now ? ["warning", "is cooling down"]
      : issuer?.requests || token.expires_at ? ["good", "answers"] : ["idle", "not asked yet"]],
    ["upstream", ...failing ? [failing.severity, failing.code === "upstream_errors" ? "answers with errors" : route.failing.replace("upstream_", "")] : bad > 0.05 ? ["warning", `${share(bad)} errors`] : answers ? ["good", "answers"] : ["idle", "not asked lately"]],
  ];
  const worst = ["critical", "warning"].find(tone => dots.some(dot => dot[1] === tone));
  const own = answers ? row[0] / answers : 0;
  return [["route", ...worst ? [worst, "in trouble"] : own > 0.05 ? ["warning", `${share(own)} own errors`] : answers ? ["good", "serves"] : ["idle", "no requests lately"]], ...dots];
};
const curl = route => {
  const { listen } = told.status, quote = text => `'${text.replaceAll("'", "'\\''")}'`;
  if (listen.startsWith("unix:")) return `curl -i --unix-socket ${quote(listen.slice(5))} ${quote(`http://localhost${route.prefix}/`)}`;
  return "curl -i " + quote(`http://${listen.replace(/^(0\.0\.0\.0|\[::\])/, "127.0.0.1")}${route.prefix}/`);
};
const routeRows = route => {
  const hour = rowsOf(route.name, 120), row = added(hour.slice(-WINDOW - 1)), all = answered(row);
  const seconds = Math.max(1, Math.min(now - told.status.started_at, WINDOW * told.recent.step + now % told.recent.step));
  const totals = hour.map(answered), failed = hour.map(one => sum(one.slice(0, 2))), slow = hour.map(one => quantile(one, 0.9) ?? 0).map(s => Math.min(s, 300));
  const parts = SOURCES.map((source, index) => [source, all ? row[index] / all : 0]), bad = sum(parts.slice(0, 2).map(([, part]) => part));
  const dots = health(route, row), worst = dots.slice(1).find(([, tone]) => tone === "critical") ?? dots.find(([, tone], index) => index && tone === "warning") ?? dots[0];
  const error = route.last_error, most = Math.max(...totals), slowest = Math.max(...slow);
  let x = 0;
  return h("tbody", null, h("tr", null,
    h("td", { "data-label": "Route" }, h("strong", null, h("code", null, route.prefix || route.name)), h("small", null, route.credential)),
    h("td", { "data-label": "Health" }, h("ul.dots", null, dots.map(([what, tone, words]) => h("li", { title: `${what}: ${words}` }, mark(tone), h("span.unseen", null, `${what}: ${words}`)))),
      h("small", { "aria-hidden": "true" }, worst[0] === "route" ? worst[2] : `${worst[0]}: ${worst[2]}`)),
    h("td", { "data-label": "Requests" }, h("span.big", null, rate(all / seconds), " /s"), route.in_flight > 0 && h("small", null, `${route.in_flight.toLocaleString("en")} under way`),
      picture("bars", "0 0 120 24", `Requests in the last hour, at most ${count(most, "request")} in ${told.recent.step} seconds`, h("path.all", { d: columns(totals, most) }), h("path.bad", { d: columns(failed, most) }))),
    h("td", { "data-label": "Errors" }, h("span.big" + (bad > 0.05 ? ".word.critical" : bad > 0.01 ? ".word.warning" : ""), null, all ? share(bad) : "–"),
      all > 0 && picture("share", "0 0 1 1", "Errors by who made them", parts.map(([source, part]) => { x += part; return part > 0 && h("rect." + source, { x: x - part, y: 0, width: part, height: 1 }); })),
      parts.filter(([, part]) => part > 0).map(([source, part]) => h("small", null, `${share(part)} ${source === "client" ? "left by the client" : source}`))),
    h("td.wide", { "data-label": "p50 · p90 · p99" }, h("span.big", null, all ? [0.5, 0.9, 0.99].map(q => milliseconds(quantile(row, q))).join(" · ") : "–"),
      picture("bars", "0 0 120 24", `90 % of the requests within this time, in the last hour; at most ${milliseconds(slowest || null)}`, h("path.slow", { d: columns(slow, slowest) }))),
    h("td.wide", { "data-label": "Goes to" }, shorten(route.upstream), h("div", null, route.prefix && copy(curl(route), "copy curl", `for ${route.prefix}`)))),
  error && h("tr.error", null, h("td.wide", { colspan: 6 }, h("span.word." + (now - error.at < 300 ? "critical" : "none"), null, "last error"), ` ${ago(error.at)}: ${error.status}`,
    error.code && [" ", h("code", null, error.code)], error.source === "upstream" ? ", the upstream’s own" : ", by the sidecar",
    error.request_id && [", request id ", h("code", null, error.request_id), " ", copy(error.request_id, "copy", "the request id")])));
};
const routes = () => section("Routes", "dots: route ← token ← issuer ← upstream; numbers of the last five minutes, bars of the last hour", h("div.table.sheet", null, h("table", null,
  h("caption.unseen", null, "Routes, failing ones first"),
  h("thead", null, h("tr", null, ["Route", "Health", "Requests", "Errors", "p50 · p90 · p99", "Goes to"].map(title =>
    h("th", { scope: "col" }, title)))),
  told.status.routes.map(routeRows))), hidden("routes"));

// --- tokens
const life = token => {
  const from = token.issued_at, whole = token.expires_at - from, place = at => `${Math.min(100, Math.max(0, 100 * (at - from) / whole)).toFixed(2)}%`;
  const at = place(now), left = token.expires_at - now, turn = token.refreshes_at;
  return [h("svg.life", { role: "img", "aria-label": `${span(now - from)} old, ${left > 0 ? span(left) + " left" : "ended"}` },
    h("rect.track", { y: 8, width: "100%", height: 8, rx: 4 }), left > 0 && h("rect.left", { y: 8, width: "100%", height: 8, rx: 4 }),
    h("rect.track", { y: 8, width: at, height: 8, rx: 4 }), h("rect.spent", { y: 8, width: at, height: 8, rx: 4 }),
    turn && h("line.turn", { x1: place(turn), x2: place(turn), y1: 2, y2: 22 }), h("line.now", { x1: at, x2: at, y1: 4, y2: 20 })),
  h("div.ends", null, h("span", null, "from ", clock(from)), turn > now && h("span", null, `┆ renewed at ${clock(turn)}`), h("span", null, left > 0 ? `ends ${clock(token.expires_at)}, in ${span(left)}` : `ended ${clock(token.expires_at)}`))];
};
const tokenCard = token => {
  const bad = told.status.problems.find(({ whose, subject }) => subject === nameOf(token) && (whose === "credential" || whose === "issuer"));
  const words = token.state === "none" ? "not wanted yet" : token.refused ? "refused" : token.state;
  return h("article.card.sheet" + (bad ? `.ill.${bad.severity}` : "." + token.state), null,
    h("div.top", null, h("h3", null, token.audience ?? token.credential), h("span.word." + (bad?.severity ?? token.state), null, words)),
    h("small", null, token.credential, token.routes.length > 0 && ` · used by ${token.routes.slice(0, 5).join(", ")}${token.routes.length > 5 ? " and others" : ""}`),
    token.issued_at && token.expires_at && life(token),
    token.quarantined_until > now && h("small", null, `The issuer is asked again in ${span(token.quarantined_until - now)}, or as soon as the secret changes.`),
    bad && [h("p.quote", null, token.new_secret_detail || token.detail), h("small", null, rich(bad.cure))]);
};
const tokens = () => section("Tokens", null, told.status.tokens.length ? h("div.cards", null, told.status.tokens.map(tokenCard)) : h("p.soft", null, "No route needs one."), hidden("tokens"));

// --- issuers
const timeline = issuer => {
  const begin = now - 3600, made = (told.recent.attempts[issuer.issuer] ?? []).filter(([at]) => at > begin);
  const cool = (told.recent.cooldowns[issuer.issuer] ?? []).filter(([, end]) => end > begin), at = moment => Math.round(Math.max(0, Math.min(3600, moment - begin)));
  const limit = issuer.min_interval ? 60 / issuer.min_interval : 0, minutes = Array(60).fill(0);
  made.forEach(([moment]) => { minutes[Math.min(59, Math.floor(at(moment) / 60))]++; });
  const top = limit || Math.max(1, ...minutes), of = Object.fromEntries(OUTCOMES.map(outcome => [outcome, made.filter(([, how]) => how === outcome)]));
  const ticks = outcome => of[outcome].map(([moment]) => `M${at(moment)} 46V66`).join("");
  const label = `${count(made.length, "token request")} in the last hour: ${of.success.length} with a token, ${of.throttled.length} throttled, ${of.refused.length} refused, ${of.failed.length} failed; ${count(cool.length, "cool-down")}.`;
  const sample = (kind, words) => h("span", null, h("svg.line", { viewBox: "0 0 16 12", "aria-hidden": "true" }, kind === "cool" ? h("rect.cool", { width: 16, height: 12 }) : h(`path.${kind}`, { d: kind === "limit" ? "M0 6H16" : "M8 0V12" })), words);
  return [picture("line", "0 0 3600 72", label,
    cool.map(([from, to]) => h("rect.cool", { x: at(from), y: 0, width: Math.max(8, at(to) - at(from)), height: 72 })),
    h("path.use", { d: minutes.map((n, x) => n ? `M${60 * x} 40V${(40 - Math.min(36, Math.max(2, 30 * n / top))).toFixed(1)}h54V40z` : "").join("") }),
    h("line.base", { x1: 0, x2: 3600, y1: 40, y2: 40 }), limit > 0 && h("line.limit", { x1: 0, x2: 3600, y1: 10, y2: 10 }), OUTCOMES.map(outcome => h("path." + outcome, { d: ticks(outcome) }))),
  h("div.ends", null, h("span", null, clock(begin)), h("span", null, label.split(":")[0]), h("span", null, "now")),
  h("div.legend", null, sample("success", "token"), of.failed.length > 0 && sample("failed", "failed"), of.throttled.length > 0 && sample("throttled", "429"), of.refused.length > 0 && sample("refused", "refused"),
    cool.length > 0 && sample("cool", "cool-down"), limit > 0 && sample("limit", `limit, ${Math.round(limit)} a minute`))];
};
const issuerCard = issuer => {
  const cooling = issuer.cooldown_until > now;
  return h("article.card.sheet" + (cooling ? ".ill.warning" : ""), null, h("div.top", null, h("h3", null, issuer.issuer),
    h("span.word." + (cooling ? "cooling" : "good"), null, cooling ? `left alone for ${span(issuer.cooldown_until - now)}` : "may be asked")),
  h("small", null, issuer.min_interval ? `One request in ${issuer.min_interval} s, for everything on this store` : "No limit is set"), timeline(issuer));
};
const issuers = () => told.status.issuers.length > 0 && section("Issuers", "each tick is a token request; above, how many in each minute", h("div.cards", null, told.status.issuers.map(issuerCard)), hidden("issuers"));

// --- the rest
const store = () => {
  const { type, location, up, detail } = told.status.store, own = type === "memory", workers = told.status.workers;
  return section("Token store", "from the first that is asked to the last", h("ol.layers", null,
    h("li.card.sheet.good", null, h("div.top", null, h("h3", null, workers > 1 ? `Memory of ${workers} workers` : "Memory of this process"), h("span.word.good", null, "in use")),
      h("small", null, own ? "Nothing else is configured: a restart begins without tokens." : "Every request is served from here.")),
    !own && h("li.card.sheet." + (up ? "good" : "ill.critical"), null, h("div.top", null, h("h3", null, type === "file" ? "Files of this host" : "Redis or Valkey"), h("span.word." + (up ? "good" : "down"), null, up ? "in use" : "down")),
      h("code", null, location), !up && h("p.quote", null, detail))));
};
const files = () => {
  const found = Object.entries(told.status.secret_files);
  return found.length > 0 && section("Files of secrets that cannot be used", "their old content stays in use", h("ul.cards", null, found.map(([setting, reason]) =>
    h("li.card.sheet.ill.warning", null, h("h3", null, h("code", null, setting)), h("p.quote", null, reason)))));
};
const attempt = issuer => ([at, outcome, audience]) => ({ at, kind: { success: "info", refused: "critical" }[outcome] ?? "warning",
  text: `${new URL(issuer).host} ${{ success: "gave a token", refused: "refused a token", throttled: "throttled a request (429)", failed: "gave no token" }[outcome]}${audience ? ` for ${audience}` : ""}.` });
const events = () => {
  const asked = Object.entries(told.recent.attempts).flatMap(([issuer, made]) => made.map(attempt(issuer)));
  const all = [...told.recent.events, ...asked, { at: told.status.started_at, kind: "info", text: "The sidecar was started." }].sort((a, b) => b.at - a.at).slice(0, 30);
  return section("What happened", "the latest first", h("ol.events.sheet", null, all.map(event => h("li." + event.kind, null, h("time.soft", { datetime: new Date(event.at * 1000).toISOString() }, when(event.at)),
    mark({ info: "idle", over: "good" }[event.kind] ?? event.kind), h("span", null, brief(event.text))))));
};

// --- the page
const show = () => {
  const problems = told?.status.problems ?? [], severity = lost ? "idle" : problems[0]?.severity ?? "good";
  const many = problems.length + (told?.hidden.problems ?? 0), reason = told?.status.reason === "draining" ? "draining" : many === 1 ? "1 problem" : `${many} problems`;
  document.title = lost ? "? camunda-sidecar" : many ? `${severity === "critical" ? "✕" : "▲"} ${reason} · camunda-sidecar` : "✓ camunda-sidecar";
  const colour = { good: "#126b3a", warning: "#c97800", critical: "#c62a22", idle: "#888888" }[severity];
  const icon = `<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24'><path d='${MARKS[severity]}' fill='${colour}'/><path d='${SIGNS[severity]}' fill='none' stroke='white' stroke-width='2.5'/></svg>`;
  const link = document.getElementById("icon"), href = "data:image/svg+xml," + encodeURIComponent(icon);
  if (link.getAttribute("href") !== href) link.setAttribute("href", href);
  document.body.className = lost ? "lost" : "";
  const { status } = told ?? {};
  if (status) document.getElementById("about").textContent = [status.version, status.listen, `up ${span(status.uptime)}`, `pid ${status.pid}`, status.configuration,
    status.workers > 1 && `${status.workers - status.workers_missing} of ${status.workers} workers`].filter(Boolean).join(" · ");
  morph(document.getElementById("page"), h("main", { id: "page" }, banner(), status && [routes(), files(), tokens(), issuers(), store(), events()]));
};
const say = text => { document.getElementById("said").textContent = text; };
const receive = ({ data }) => {
  const key = () => told && !lost ? [told.status.problems[0]].map(worst => worst ? worst.code + worst.subject : "")[0] : undefined, before = key();
  told = JSON.parse(data);
  now = told.status.started_at + told.status.uptime;
  [heard, lost] = [performance.now(), ""];
  const oldest = now / told.recent.step - 121, names = new Set(told.status.routes.map(route => route.name));
  for (const [name, rows] of Object.entries(told.recent.routes)) Object.assign(frames[name] ??= {}, rows);
  for (const name of Object.keys(frames)) if (!names.has(name)) delete frames[name];
  for (const rows of Object.values(frames)) for (const number of Object.keys(rows)) if (number < oldest) delete rows[number];
  if (key() !== before) say(told.status.problems[0]?.what ?? "All is well.");
  show();
};
const lose = words => { if (!lost) { lost = words; say("No answer from the sidecar."); show(); } };
const connect = () => {
  const source = new EventSource("/events");
  source.onmessage = receive;
  source.onerror = () => {
    lose("Its process has ended, it cannot be reached, or too many of these pages are open. This page tries again by itself.");
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, 5000);
  };
};
document.addEventListener("click", async ({ target }) => {
  const button = target.closest?.("[data-copy]");
  if (!button) return;
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    button.textContent = "copied"; // until the next event
    say("Copied.");
  } catch { say("The browser does not let this page copy."); }
});
setInterval(() => { if (heard && performance.now() - heard > 20000) lose("It has said nothing for 20 seconds: it may be stopped or overloaded."); }, 1000);
connect();
