// Adds a bearer token to what passes, because the conformance suite cannot send one; all else passes as it is.
// Usage: TOKEN=… node proxy.mjs <port of the server>; prints its own port. On loopback, both ends.

import { createServer, request } from "node:http";

const port = Number(process.argv[2]);
const authorization = `Bearer ${process.env.TOKEN}`;

const server = createServer((incoming, outgoing) => {
  const headers = [...incoming.rawHeaders, "Authorization", authorization];
  const { method, url: path } = incoming;
  const onward = request({ host: "127.0.0.1", port, method, path, headers }, (answer) => {
    outgoing.writeHead(answer.statusCode, answer.rawHeaders);
    outgoing.flushHeaders();
    answer.pipe(outgoing);
  });
  onward.on("error", () => outgoing.destroy());
  outgoing.on("close", () => onward.destroy());
  incoming.pipe(onward);
});

server.listen(0, "127.0.0.1", () => console.log(server.address().port));
