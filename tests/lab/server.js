// An HTTP server under Node. `/hang` never answers, `/throw` ends the process by an exception that nobody catches.
// Usage: node server.js HOST PORT [KEEP_ALIVE_MS [SOCKET_TIMEOUT_MS]]
const http = require("http");
const [host, port, keepAlive, timeout] = process.argv.slice(2);

const server = http.createServer((request, response) => {
  if (request.url === "/hang") {
    console.log("hanging");
    return;
  }
  if (request.url === "/throw") {
    throw new Error("nobody catches this");
  }
  response.setHeader("Content-Length", 6);
  response.end("hello\n");
});
server.keepAliveTimeout = Number(keepAlive || 5000);
if (timeout) {
  server.setTimeout(Number(timeout));
}
server.listen(Number(port), host);
