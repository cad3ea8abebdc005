// Asks Claude or Gemini through llm-mcp-hub with the official MCP client for TypeScript, and shows what happens meanwhile.
//
//   npm ci
//   npm start -- claude "What is a pseudo-terminal?"
//   npm start -- --url http://127.0.0.1:8000/mcp --token-file laptop.token gemini "What is a pseudo-terminal?"
//
// Node.js 20 or newer; from 22.18 on `node ask.ts claude "…"` does without the compiler. By itself it starts
// `llm-mcp-hub` over stdio. A hub that wants a client's token: --token-file, or LLM_HUB_TOKEN_FILE; never in the command.
// The answer goes to stdout, the rest to stderr. Exit codes: 0 an answer, 1 the ask has failed, 2 wrong words, 69 no hub.
import { readFileSync } from "node:fs";
import process from "node:process";
import { parseArgs } from "node:util";
import { type CallToolResult, Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";

/** What a program finds in `_meta["llm-mcp-hub/answer"]`. */
interface Answer {
  ask_id: string;
  status: "completed" | "working";
  model: string;
  text: string;
  conversation_id: string;
  warnings: string[];
}

/** What a program finds in `_meta["llm-mcp-hub/error"]`: a failed ask is a result, not an exception. */
interface HubError {
  code: string;
  message: string;
  action: string;
  retryable: boolean;
  partial_text: string | null;
}

interface Page {
  next_offset: number | null;
}

class AskFailed extends Error {
  readonly error: HubError;

  constructor(error: HubError) {
    super(`${error.code}: ${error.message}\nNext: ${error.action}`);
    this.error = error;
  }
}

/** A call is given up when nothing is heard for so long; each progress that the hub sends starts it anew. */
const QUIET_MS = 30_000;

/** How long one call for an ask that still runs may wait: many proxies give a call up at 60 s. */
const WAIT_S = 50;

function say(text: string): void {
  process.stderr.write(text + "\n");
}

async function call(client: Client, tool: string, given: Record<string, unknown>): Promise<CallToolResult> {
  const result = await client.callTool(
    { name: tool, arguments: given },
    { timeout: QUIET_MS, resetTimeoutOnProgress: true, onprogress: (told) => say(`… ${told.message ?? told.progress}`) },
  );
  if (result.isError) throw new AskFailed(result._meta?.["llm-mcp-hub/error"] as HubError);
  return result;
}

const answerOf = (result: CallToolResult): Answer => result._meta?.["llm-mcp-hub/answer"] as Answer;
const following = (result: CallToolResult): number | null =>
  (result._meta?.["llm-mcp-hub/page"] as Page | undefined)?.next_offset ?? null;

/** One whole answer: a ticket, which is what a call gets that would wait too long, is come back for; pages are joined. */
async function ask(client: Client, provider: string, prompt: string): Promise<Answer> {
  let result = await call(client, `ask_${provider}`, { prompt });
  while (answerOf(result).status === "working") {
    const { ask_id } = answerOf(result);
    say(`… a ticket: ${ask_id}`);
    result = await call(client, "ask_result", { ask_id, wait_s: WAIT_S });
  }
  const answer = answerOf(result);
  for (let offset = following(result); offset !== null; offset = following(result)) {
    result = await call(client, "ask_result", { ask_id: answer.ask_id, offset });
    answer.text += answerOf(result).text;
  }
  return answer;
}

function words() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { url: { type: "string" }, "token-file": { type: "string" } },
  });
  const [provider, prompt] = positionals;
  if (provider === undefined || prompt === undefined || positionals.length > 2) {
    throw new TypeError("usage: ask.ts [--url URL] [--token-file FILE] claude|gemini QUESTION");
  }
  const file = values["token-file"] ?? process.env["LLM_HUB_TOKEN_FILE"];
  const token = file === undefined ? undefined : readFileSync(file, "utf8").trim();
  // A token that fits into no header would be shown by the complaint about it.
  if (token !== undefined && !/^[\x21-\x7e]+$/.test(token)) {
    throw new TypeError(`${file} holds no token: one line without blanks.`);
  }
  return { provider, prompt, token, url: values.url };
}

function wayTo(url: string | undefined, token: string | undefined) {
  if (url === undefined) {
    const env = { LOG_LEVEL: "ERROR", ...process.env } as Record<string, string>;
    return new StdioClientTransport({ command: "llm-mcp-hub", env });
  }
  const headers: Record<string, string> = token ? { Authorization: `Bearer ${token}` } : {};
  return new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers } });
}

async function main(): Promise<number> {
  let given: ReturnType<typeof words>;
  try {
    given = words();
  } catch (error) {
    say((error as Error).message);
    return 2;
  }
  // "auto": the protocol's newer era where the server has it.
  const client = new Client({ name: "example", version: "1.0.0" }, { versionNegotiation: { mode: "auto" } });
  try {
    await client.connect(wayTo(given.url, given.token));
  } catch (error) {
    say(`There is no hub that lets us in at ${given.url ?? "llm-mcp-hub"}: ${(error as Error).message}`);
    say("Next: start it (llm-mcp-hub serve); where it wants a client's token, name the file that holds it: --token-file");
    return 69;
  }
  try {
    const answer = await ask(client, given.provider, given.prompt);
    process.stdout.write(answer.text + "\n");
    say(`${answer.model}; go on with conversation_id ${answer.conversation_id}`);
    for (const warning of answer.warnings) say(`warning: ${warning}`);
    return 0;
  } catch (error) {
    if (!(error instanceof AskFailed)) {
      say(`The hub was lost: ${(error as Error).message}\nNext: fetch the answer with ask_result when it is back.`);
      return 69;
    }
    if (error.error.partial_text) process.stdout.write(error.error.partial_text + "\n");
    say(error.message);
    return 1;
  } finally {
    await client.close();
  }
}

process.exitCode = await main();
