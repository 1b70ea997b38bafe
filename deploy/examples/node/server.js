// A web server as the runtime contract wants it: listens on $PORT, finishes on SIGTERM.
const http = require("node:http");

const server = http.createServer((request, response) => {
  response.setHeader("Content-Type", "text/plain; charset=utf-8");
  response.end(`Hello ${process.env.TARGET ?? "World"}!\n`);
});

server.listen(Number(process.env.PORT), "127.0.0.1");
process.on("SIGTERM", () => server.close(() => process.exit(0)));
