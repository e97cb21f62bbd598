// What went wrong, in a sentence that a student understands.
const GENERAL = "Something went wrong. Please try again.";
const SENTENCES = {
  PICTURE_LOST: "I no longer have your page. Add the picture again.",
  UNREACHABLE: "I cannot reach StudyAI. Check your connection, then try again.",
  IMAGE_UNREADABLE: "I cannot read this picture. Please take another one.",
  PAYLOAD_TOO_LARGE: "This picture is too large. Please take another one.",
  UNAUTHENTICATED: "Please enter your access code in the settings.",
  CODE_REFUSED: "That code is not accepted. Please check it in the settings.",
  FORBIDDEN: "You may not ask here. Please talk to your teacher.",
  RATE_LIMITED: "That was a lot of questions. Take a short break, then try again.",
  OVERLOADED: "Many students are asking right now. Please try again in a moment.",
  DRAINING: "StudyAI is being updated. Please try again in a moment.",
  ENGINE_UNAVAILABLE: "StudyAI is not available right now. Please try again in a moment.",
  UPSTREAM_RATE_LIMITED: "Many students are asking right now. Please try again in a moment.",
  UPSTREAM_UNAVAILABLE: "The AI is not available right now. Please try again in a moment.",
  UPSTREAM_AUTH: "The AI is not available right now. Please tell your teacher.",
  UPSTREAM_REJECTED: "I cannot answer that question. Please ask another one.",
  UPSTREAM_TRUNCATED: "The answer broke off. Please try again.",
  UPSTREAM_TIMEOUT: "The AI went silent. Please try again.",
  DEADLINE_EXCEEDED: "The answer took too long. Please try again.",
};

/** An `error` event with its sentence. */
export function told(event) {
  return { ...event, type: "error", sentence: SENTENCES[event.code] ?? event.response ?? GENERAL };
}

export function unreachable() {
  return told({ code: "UNREACHABLE", retryable: true });
}

export function brokenOff() {
  return told({ code: "UPSTREAM_TRUNCATED", retryable: true });
}

/** The `error` event that a response with an error's status is; `token` went with the request. */
export async function refusal(response, token) {
  const body = await response.json().catch(() => ({}));
  const seconds = Number(response.headers.get("retry-after"));
  const gateway = response.status >= 500; // a proxy's page says nothing, and may be gone soon
  const general = { retryable: gateway, code: gateway ? "ENGINE_UNAVAILABLE" : "" };
  return told({ ...general, ...body, ...closer(body, token), retryAfter: seconds ? seconds * 1000 : undefined });
}

/** Where the page knows better than the code what is the matter. */
function closer({ code, error = "" }, token) {
  if (code === "UNAUTHENTICATED" && token) return { code: "CODE_REFUSED" };
  if (code === "INVALID_REQUEST" && error.startsWith("base64_image:")) return { code: "PICTURE_LOST" }; // its session is gone
  return {};
}
