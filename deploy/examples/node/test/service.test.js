// The service as its users see it: tidegate on free ports, and requests from outside.
//
//   node --test deploy/examples/node/test/service.test.js
//
// Another tidegate than that of PATH: TIDEGATE=target/release/tidegate.
const assert = require("node:assert/strict");
const { spawn } = require("node:child_process");
const { once } = require("node:events");
const http = require("node:http");
const path = require("node:path");
const readline = require("node:readline");
const { after, before, test } = require("node:test");

const HOST = "node.default.localhost";
let tidegate;
let port;

before(async () => {
  tidegate = spawn(
    process.env.TIDEGATE ? path.resolve(process.env.TIDEGATE) : "tidegate",
    [
      ...["serve", "-f", "service.yaml", "--run", "node=node server.js", "--state-dir", "none"],
      ...["--http", "127.0.0.1:0", "--admin", "127.0.0.1:0"],
    ],
    { cwd: path.dirname(__dirname), stdio: ["ignore", "pipe", "inherit"] },
  );
  // One line comes once requests are served: `listening http=127.0.0.1:40123 admin=127.0.0.1:40124`.
  const [line] = await once(readline.createInterface(tidegate.stdout), "line");
  port = Number(/ http=127\.0\.0\.1:(\d+)/.exec(line)[1]);
});

after(async () => {
  tidegate.kill("SIGTERM");
  const [code] = await once(tidegate, "exit");
  assert.equal(code, 0);
});

// `fetch` does not let a program choose the Host.
function get(headers = {}) {
  return new Promise((resolve, reject) => {
    const request = http.get({ host: "127.0.0.1", port, path: "/", headers }, async (response) => {
      let body = "";
      for await (const part of response.setEncoding("utf8")) body += part;
      resolve({ status: response.statusCode, body });
    });
    request.on("error", reject);
  });
}

async function fifty(headers) {
  const answers = await Promise.all(Array.from({ length: 50 }, () => get(headers)));
  for (const answer of answers) {
    assert.deepEqual(answer, { status: 200, body: "Hello Node!\n" });
  }
}

test("the first request starts a replica", async () => {
  assert.deepEqual(await get({ Host: HOST }), { status: 200, body: "Hello Node!\n" });
});

test("fifty requests at once", () => fifty({ Host: HOST }));

// A request to an IP address goes to the only service.
test("fifty requests without that Host", () => fifty());

test("nobody has another host", async () => {
  assert.equal((await get({ Host: "nobody.example.com" })).status, 404);
});
