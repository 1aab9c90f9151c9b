// Node's http (with a keep-alive agent), its fetch, and its WebSocket where it has one.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import http from "node:http";

const base = process.argv[2];
const sum = (data) => createHash("sha256").update(data).digest("hex");
const digest = createHash("sha256").update("piece").digest();
const pattern = (size) => Buffer.alloc(size, digest);

function checkEcho(seen, method, body) {
  assert.equal(seen.method, method);
  assert.equal(seen.length, body.length);
  assert.equal(seen.sha256, sum(body));
  assert.deepEqual(seen.headers.authorization, ["Bearer token-1"]);
}

const agent = new http.Agent({ keepAlive: true, maxSockets: 4 });

function request(path, options, pieces = []) {
  return new Promise((resolve, reject) => {
    const sent = http.request(base + path, { agent, ...options }, (response) => {
      const received = [];
      response.on("data", (piece) => received.push(piece));
      response.on("error", reject);
      response.on("end", () => resolve({ response, body: Buffer.concat(received), reused: sent.reusedSocket }));
    });
    sent.on("error", reject);
    for (const piece of pieces) sent.write(piece);
    sent.end();
  });
}

async function withHttp() {
  let reused = 0;
  for (let i = 0; i < 20; i++) {
    const answer = await request(`/echo?i=${i}`, {});
    checkEcho(JSON.parse(answer.body), "GET", Buffer.alloc(0));
    reused += answer.reused ? 1 : 0;
  }
  assert.ok(reused >= 19, `only ${reused} of 20 connections were reused`);
  for (const size of [0, 1, 1000, 100_000, 3_000_000]) {
    const body = pattern(size);
    checkEcho(JSON.parse((await request("/echo", { method: "POST" }, [body.subarray(0, 10), body.subarray(10)])).body), "POST", body);
    const headers = { "content-length": size };
    checkEcho(JSON.parse((await request("/echo", { method: "PUT", headers }, [body])).body), "PUT", body);
  }
  for (const size of [0, 1, 100_000, 10_000_000]) {
    for (const query of ["", "?length"]) {
      assert.equal(sum((await request(`/download/${size}${query}`, {})).body), sum(pattern(size)));
    }
  }
  const head = await request("/download/5?length", { method: "HEAD" });
  assert.equal(head.response.headers["content-length"], "5");
  assert.equal(head.body.length, 0);
  const headers = { expect: "100-continue" };
  checkEcho(JSON.parse((await request("/echo", { method: "POST", headers }, [pattern(5000)])).body), "POST", pattern(5000));
  const all = await Promise.all(Array.from({ length: 100 }, (_, i) => request("/echo", { method: "POST" }, [pattern(i * 37 + 1)])));
  all.forEach((answer, i) => checkEcho(JSON.parse(answer.body), "POST", pattern(i * 37 + 1)));
}

async function withFetch() {
  for (let i = 0; i < 20; i++) {
    checkEcho(await (await fetch(`${base}/echo?i=${i}`, { headers: { authorization: "" } })).json(), "GET", Buffer.alloc(0));
  }
  for (const size of [1, 100_000, 3_000_000]) {
    const body = pattern(size);
    checkEcho(await (await fetch(`${base}/echo`, { method: "POST", body })).json(), "POST", body);
    const stream = new Blob([body]).stream();
    checkEcho(await (await fetch(`${base}/echo`, { method: "PUT", body: stream, duplex: "half" })).json(), "PUT", body);
    assert.equal(sum(Buffer.from(await (await fetch(`${base}/download/${size}`)).arrayBuffer())), sum(body));
  }
  const all = await Promise.all(Array.from({ length: 100 }, async (_, i) => (await fetch(`${base}/download/${i * 37}`)).arrayBuffer()));
  all.forEach((body, i) => assert.equal(body.byteLength, i * 37));
}

async function withWebSocket() {
  const socket = new WebSocket(`${base.replace("http", "ws")}/ws`);
  socket.binaryType = "arraybuffer";
  const messages = [];
  let wake = () => {};
  const note = (message) => { messages.push(message); wake(); };
  socket.onmessage = (event) => note(typeof event.data === "string" ? event.data : `bytes ${event.data.byteLength}`);
  socket.onclose = (event) => note(`closed ${event.code} ${event.reason}`);
  socket.onerror = (event) => note(`error ${event.message}`);
  const expect = async (message) => {
    while (!messages.length) await new Promise((resolve) => { wake = resolve; });
    assert.equal(messages.shift(), message);
  };
  await expect("Bearer token-1");
  socket.send("hello");
  await expect("hello");
  socket.send(pattern(300_000));
  await expect("bytes 300000");
  socket.send("close");
  await expect("closed 4000 as told");
}

await withHttp();
await withFetch();
if (globalThis.WebSocket) await withWebSocket();
agent.destroy();
console.log(globalThis.WebSocket ? "all right" : "all right, no WebSocket in this Node");
process.exit(0);
