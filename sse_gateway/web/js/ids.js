// Names that nobody else comes up with. `crypto.randomUUID` is only where the page came over HTTPS.
export function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
