// What a program does with the TypeScript SDK (v1, or v2 in the newer era where the server has it), told as lines of JSON.
// argv: the SDK's version, a word for the prompts, and how the hub is reached: {url, token} or {command, args, env}.
import process from "node:process";

const [version, word, described] = process.argv.slice(2);
const reach = JSON.parse(described);
const from = version === "v1" ? "@modelcontextprotocol/sdk/client/" : "@modelcontextprotocol/client";
const { Client } = await import(version === "v1" ? `${from}index.js` : from);
const { StdioClientTransport } = await import(version === "v1" ? `${from}stdio.js` : `${from}/stdio`);
const { StreamableHTTPClientTransport } = await import(version === "v1" ? `${from}streamableHttp.js` : from);

const tell = (what, value) => process.stdout.write(JSON.stringify([what, value]) + "\n");
const headers = reach.token ? { Authorization: `Bearer ${reach.token}` } : {};
const transport = reach.url
  ? new StreamableHTTPClientTransport(new URL(reach.url), { requestInit: { headers } })
  : new StdioClientTransport({ ...reach, stderr: "ignore" });
const client = new Client(
  { name: "a-program", version: "1.0.0" },
  version === "v1" ? {} : { versionNegotiation: { mode: "auto" } },
);
// v1 does not wait for its word of a cancelled call to be heard, and closing would take it back.
const sending = [];
const send = transport.send.bind(transport);
transport.send = (...given) => {
  sending.push(send(...given));
  return sending.at(-1);
};
const call = (name, given, options) => {
  const request = { name, arguments: given };
  return version === "v1" ? client.callTool(request, undefined, options) : client.callTool(request, options);
};

await client.connect(transport);
tell("server", client.getServerVersion().name);
tell("era", version === "v1" ? null : client.getNegotiatedProtocolVersion());
tell("tools", (await client.listTools()).tools.map((tool) => tool.name));
tell("answer", await call("ask_gemini", { prompt: "Who are you?" }));
tell("error", await call("ask_claude", { prompt: "Who are you?", model: "gpt-4" }));

// Its time-out is shorter than the answer takes; what the hub tells on the way resets it.
let told = 0;
const slow = await call("ask_claude", { prompt: `slow ${word}` }, {
  timeout: 10000,
  resetTimeoutOnProgress: true,
  onprogress: (progress) => tell("progress", { ...progress, told: (told += 1) }),
});
tell("slow", slow);

const gone = new AbortController();
try {
  await call("ask_gemini", { prompt: `never ${word}` }, { signal: gone.signal, onprogress: () => gone.abort("enough") });
} catch (error) {
  tell("cancelled", String(error));
}
await Promise.allSettled(sending);
await client.close();
tell("closed", true);
