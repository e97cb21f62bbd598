// An answer as it is read aloud: its blocks apart, and its formulas in one line, since "15/3" is not "153".
const UNSAID = ".katex-html, annotation, mphantom";
const BLOCK = "p, h1, h2, h3, h4, h5, h6, li, pre, th, td, .katex-display";
const BETWEEN = { mfrac: "/", msup: "^", msub: "_", msubsup: "_^", munder: "_", mover: "^", munderover: "_^" };

export function spoken(answer) {
  return said(answer).replace(/\s*\n\s*/g, "\n").trim();
}

function said(node) {
  if (node.nodeType === Node.TEXT_NODE) return node.data;
  if (node.matches(UNSAID)) return "";
  const parts = [...node.childNodes].map(said);
  const signs = BETWEEN[node.localName];
  if (signs) return parts.map(grouped).reduce((all, part, index) => all + (part && signs[index - 1]) + part);
  if (node.localName === "msqrt") return `√${grouped(parts.join(""))}`;
  if (node.localName === "mspace") return " ";
  return parts.join("") + (node.matches(BLOCK) ? "\n" : "");
}

function grouped(part) {
  return /^([\p{L}\p{N}.,]*|.)$/u.test(part.trim()) ? part.trim() : `(${part})`;
}
