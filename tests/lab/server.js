// An HTTP server under Node. `/hang` never answers, `/throw` ends the process by an exception that nobody catches.
// Usage: node server.js HOST PORT [KEEP_ALIVE_MS [SOCKET_TIMEOUT_MS [REQUEST_TIMEOUT_MS]]]
const http = require("http");
const [host, port, keepAlive, timeout, requestTimeout] = process.argv.slice(2);

const patience = Number(requestTimeout || 0);
const limits = { requestTimeout: patience, headersTimeout: patience, connectionsCheckingInterval: 100 };
const server = http.createServer(limits, (request, response) => {
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
if (Number(timeout)) {
  server.setTimeout(Number(timeout));
}
server.listen(Number(port), host);
