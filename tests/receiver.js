// SPDX-License-Identifier: Apache-2.0
// A receiver as its own documentation shows it: the official library verifies, what it refuses gets
// 400. Says its port, then a line for each message. node receiver.js SECRET
const http = require("http");
const { Webhook } = require("standardwebhooks");

const webhook = new Webhook(process.argv[2]);
const server = http.createServer((request, response) => {
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("end", () => {
    let line;
    try {
      line = { message: webhook.verify(Buffer.concat(parts).toString("utf8"), request.headers) };
      response.statusCode = 204;
    } catch (e) {
      line = { refused: String(e) };
      response.statusCode = 400;
    }
    response.end();
    process.stdout.write(JSON.stringify({ ...line, headers: request.headers }) + "\n");
  });
});
server.listen(0, "127.0.0.1", () => process.stdout.write(server.address().port + "\n"));
