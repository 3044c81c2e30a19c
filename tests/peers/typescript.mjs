// Drives `ctxfs mcp` over stdio by a client of the TypeScript SDK: argv is the SDK (sdk or client), then the server's command.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { join } from "node:path";

const [which, ...command] = process.argv.slice(2);
const require = createRequire(join(process.cwd(), "package.json"));
const load = (name) => import(pathToFileURL(require.resolve(name)).href);
const names = {
  sdk: ["@modelcontextprotocol/sdk/client/index.js", "@modelcontextprotocol/sdk/client/stdio.js"],
  client: ["@modelcontextprotocol/client", "@modelcontextprotocol/client/stdio"],
}[which];
const { Client } = await load(names[0]);
const { StdioClientTransport } = await load(names[1]);

const client = new Client({ name: "peer", version: "1" });
await client.connect(new StdioClientTransport({ command: command[0], args: command.slice(1) }));
const text = (result) => result.content.map((part) => part.text ?? "").join("");
const found = {
  tools: (await client.listTools()).tools.map((tool) => tool.name),
  read: text(await client.callTool({ name: "ctx_read", arguments: { path: "knowledge/handbook/rotation.md" } })),
  written: text(await client.callTool({ name: "ctx_write", arguments: { path: "memory/shared/peer.md", content: "by a peer\n" } })),
  refused: (await client.callTool({ name: "ctx_read", arguments: { path: "nope", colour: "red" } })).isError,
  resource: (await client.readResource({ uri: "ctx:///memory/shared/peer.md" })).contents[0].text,
  prompts: (await client.listPrompts()).prompts.map((prompt) => prompt.name),
  completed: (await client.complete({
    ref: { type: "ref/resource", uri: "ctx:///{+path}" },
    argument: { name: "path", value: "knowledge/handbook/r" },
  })).completion.values,
};
console.log(JSON.stringify(found));
await client.close();
