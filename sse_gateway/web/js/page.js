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

const NEAR = 120; // pixels from the end, for those who scroll down to it
let following = true;
let seenAt = 0;
// However little somebody scrolls up, the page is theirs: else a finger would pull against the text that comes.
addEventListener("scroll", () => {
  const left = document.documentElement.scrollHeight - innerHeight - scrollY;
  following = scrollY < seenAt ? left < 2 : following || left < NEAR;
  seenAt = scrollY;
});
addEventListener("resize", () => {
  if (by("turns").hasChildNodes()) follow();
});

/** Keeps the end in view for those who are looking at it. */
export function follow() {
  if (!following) return;
  scrollTo({ top: document.documentElement.scrollHeight, behavior: "instant" });
  seenAt = scrollY; // nobody has scrolled up where the page has become shorter
}

export function goToEnd() {
  following = true;
  follow();
}
