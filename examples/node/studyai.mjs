// StudyAI's engine from Node, made from protos/ at run time: nothing is generated.
//
//   const studyai = connect("localhost:5001");
//   for await (const event of ask(studyai, { image, prompt: "What is x?" })) …
//
// A connection that breaks is made again, and the answer goes on where it was. The model is asked once: the question
// carries an idempotency key, and once an answer has begun it is resumed and not asked for again.
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";
import protobuf from "protobufjs";

const PROTOS = fileURLToPath(new URL("../../protos", import.meta.url));
const ATTEMPTS = 7;
const FIRST_DELAY_MS = 250;
const LONGEST_DELAY_MS = 8_000;
/** Failures of the way to an answer, and not of the answer. */
const PASSING = new Set(["CONNECTION_LOST", "OVERLOADED", "DRAINING", "ENGINE_UNAVAILABLE"]);

const definition = loader.loadSync("studyai/v1/chat.proto", {
  includeDirs: [PROTOS],
  keepCase: true,
  enums: String,
  longs: Number,
  defaults: true,
  oneofs: true,
});
const { ChatService } = grpc.loadPackageDefinition(definition).studyai.v1;

// As much of google/rpc/status.proto and error_details.proto as is needed.
const details = protobuf.parse(`
  syntax = "proto3";
  message Any { string type_url = 1; bytes value = 2; }
  message Status { int32 code = 1; string message = 2; repeated Any details = 3; }
  message ErrorInfo { string reason = 1; string domain = 2; }
  message RetryInfo { Duration retry_delay = 1; }
  message Duration { int64 seconds = 1; int32 nanos = 2; }
`, { keepCase: true }).root;

/** A question that was not answered, or not to its end. `code` is the stable word to branch on. */
export class StudyAIError extends Error {
  constructor(message, { code, retryAfterMs }) {
    super(message);
    this.name = "StudyAIError";
    this.code = code;
    /** Undefined where asking again does not help. */
    this.retryAfterMs = retryAfterMs;
  }
}

/**
 * Returns a client. `token` is the engine's SERVICE_TOKEN; `ca`, `key` and `certificate` are PEM buffers, for TLS.
 */
export function connect(target, { token, ca, key, certificate } = {}) {
  const credentials = ca ? grpc.credentials.createSsl(ca, key, certificate) : grpc.credentials.createInsecure();
  const client = new ChatService(target, credentials, {
    // Finds connections that died without a word; the engine allows a ping every 5 s and more.
    "grpc.keepalive_time_ms": 20_000,
    "grpc.keepalive_timeout_ms": 10_000,
    // As soon as an engine that was restarted is there again.
    "grpc.initial_reconnect_backoff_ms": 200,
    "grpc.max_reconnect_backoff_ms": 2_000,
  });
  client.token = token;
  return client;
}

/**
 * Yields `{ started }`, any number of `{ text_delta }`, `{ finished }`, as in chat.proto. Leave the loop, or abort
 * `signal`, to cancel the call.
 */
export async function* ask(client, question, { key = randomUUID(), timeoutMs = 120_000, signal, onRetry } = {}) {
  const deadline = new Date(Date.now() + timeoutMs);
  let answerId;
  let seen = -1;
  let failures = 0;
  for (;;) {
    const call = answerId
      ? client.ResumeAnswer(
          { answer_id: answerId, after_sequence: seen, student_id: question.student_id },
          metadata(client),
          { deadline },
        )
      : client.ChatImage({ question, request_id: key }, metadata(client, failures > 0), { deadline });
    try {
      for await (const message of messages(call, signal)) {
        // After 0 an answer is replayed from its start, `started` included.
        if (message.sequence <= seen && message.event !== "finished") continue;
        failures = 0;
        seen = message.sequence;
        answerId ??= message.started?.answer_id;
        if (message.event) yield { [message.event]: message[message.event] };
        if (message.event === "finished") return;
      }
      throw new StudyAIError("The stream ended before the answer.", { code: "CONNECTION_LOST", retryAfterMs: 0 });
    } catch (error) {
      if (!PASSING.has(error.code) || ++failures > ATTEMPTS) throw error;
      const delay = Math.max(error.retryAfterMs, backOff(failures));
      if (Date.now() + delay > deadline) throw error;
      onRetry?.(error, delay);
      await sleep(delay, undefined, { signal });
    }
  }
}

/** Stops an answer, for all who read it. */
export function stop(client, answerId, studentId = "") {
  return new Promise((resolve, reject) => {
    const request = { answer_id: answerId, student_id: studentId };
    client.StopAnswer(request, metadata(client), (error) => (error ? reject(failure(error)) : resolve()));
  });
}

async function* messages(call, signal) {
  const cancel = () => call.cancel();
  signal?.addEventListener("abort", cancel);
  try {
    yield* call;
  } catch (error) {
    signal?.throwIfAborted();
    throw failure(error);
  } finally {
    signal?.removeEventListener("abort", cancel);
    // Leaving the loop ends the stream, and not the call.
    call.cancel();
  }
}

function metadata({ token }, again = false) {
  const made = new grpc.Metadata();
  if (token) made.set("authorization", `Bearer ${token}`);
  // An engine that is full looks whether it has the answer already before it refuses.
  if (again) made.set("x-may-join", "1");
  return made;
}

/** From a status to an error: its code is ErrorInfo's reason, or our own word where gRPC itself failed. */
function failure(error) {
  const found = detailsOf(error.metadata?.get("grpc-status-details-bin")[0]);
  const delay = found.RetryInfo?.retry_delay;
  if (found.ErrorInfo?.domain === "studyai") {
    const retryAfterMs = delay && Number(delay.seconds) * 1000 + delay.nanos / 1e6;
    return new StudyAIError(error.details, { code: found.ErrorInfo.reason, retryAfterMs });
  }
  const lost = [grpc.status.UNAVAILABLE, grpc.status.CANCELLED, grpc.status.INTERNAL].includes(error.code);
  const code = lost ? "CONNECTION_LOST" : grpc.status[error.code];
  return new StudyAIError(error.details ?? String(error), { code, retryAfterMs: lost ? 0 : undefined });
}

function detailsOf(bytes) {
  if (!bytes) return {};
  const found = {};
  for (const { type_url, value } of details.lookupType("Status").decode(bytes).details) {
    const name = type_url.split(".").at(-1);
    if (name === "ErrorInfo" || name === "RetryInfo") found[name] = details.lookupType(name).decode(value);
  }
  return found;
}

function backOff(failures) {
  const longest = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** (failures - 1));
  return longest * (0.5 + Math.random() / 2);
}
