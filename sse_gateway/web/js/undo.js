// A new page can be taken back for a moment. Then what was there is gone for good: the computer may be one that is shared.
import { by } from "./page.js";

const MOMENT_MS = 10_000;
let timer;
let takeBack;

export const undo = {
  offer(action) {
    clearTimeout(timer);
    takeBack = action;
    timer = setTimeout(() => this.withdraw(), MOMENT_MS);
    by("undo").hidden = false;
  },
  withdraw() {
    clearTimeout(timer);
    takeBack = undefined;
    if (document.activeElement === by("undo")) by("prompt").focus();
    by("undo").hidden = true;
  },
};

by("undo").addEventListener("click", () => {
  const action = takeBack;
  undo.withdraw();
  action?.();
});
