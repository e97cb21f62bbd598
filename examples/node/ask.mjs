// Asks about a picture and writes the answer while it comes; Ctrl-C stops it.
// Usage: node ask.mjs PICTURE QUESTION [HOST:PORT]
//
// Where the engine asks for them it reads SERVICE_TOKEN, AI_ENGINE_TLS_CA_FILE (TLS), and AI_ENGINE_TLS_CERT_FILE and
// AI_ENGINE_TLS_KEY_FILE (mutual TLS), as the gateway does.
import { readFileSync } from "node:fs";
import { StudyAIError, ask, connect, stop } from "./studyai.mjs";

const [picture, prompt, target = "localhost:5001"] = process.argv.slice(2);
if (!prompt) {
  console.error("Usage: node ask.mjs PICTURE QUESTION [HOST:PORT]");
  process.exit(2);
}
const file = (variable) => process.env[variable] && readFileSync(process.env[variable]);
const studyai = connect(target, {
  token: process.env.SERVICE_TOKEN?.split(",")[0],
  ca: file("AI_ENGINE_TLS_CA_FILE"),
  key: file("AI_ENGINE_TLS_KEY_FILE"),
  certificate: file("AI_ENGINE_TLS_CERT_FILE"),
});
let answerId;
const leaving = new AbortController();
process.once("SIGINT", () => leaving.abort());

try {
  const onRetry = (error, delay) => console.error(`[${error.code}; again in ${Math.round(delay)} ms]`);
  const question = { image: readFileSync(picture), prompt, subject: "math" };
  for await (const { started, text_delta, finished } of ask(studyai, question, { signal: leaving.signal, onRetry })) {
    if (started) {
      answerId = started.answer_id;
      console.error(`[${started.model}]`);
    }
    if (text_delta) process.stdout.write(text_delta.text);
    if (finished) console.error(`\n[${finished.usage.total_tokens} tokens]`);
  }
} catch (error) {
  if (leaving.signal.aborted) {
    if (answerId) await stop(studyai, answerId);
    process.exitCode = 130;
  } else {
    console.error(`\nfailed: ${error instanceof StudyAIError ? `${error.code}: ` : ""}${error.message}`);
    process.exitCode = 1;
  }
} finally {
  studyai.close();
}
