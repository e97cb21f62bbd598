// What the parts of the page share: its elements, its voice, and whether it follows the answer.
export const by = (id) => document.getElementById(id);

export function element(tag, className = "", text = "") {
  return Object.assign(document.createElement(tag), { className, textContent: text });
}

/** Tells those who cannot see it. */
export function say(sentence) {
  if (by("said").textContent !== sentence) by("said").textContent = sentence;
}

/** Whether fingers are all there is: a box that has the focus brings a keyboard over half of the page. */
export function isTouched() {
  return matchMedia("(hover: none) and (pointer: coarse)").matches;
}

// Whether the end of the answer is in view is watched and not measured: to measure is to lay the page out once more.
let following = true;
new IntersectionObserver(([entry]) => (following = entry.isIntersecting), { rootMargin: "0px 0px 120px" }).observe(by("end"));

/** Keeps the end in view for those who are looking at it. */
export function follow() {
  if (following) scrollTo({ top: document.documentElement.scrollHeight, behavior: "instant" });
}
