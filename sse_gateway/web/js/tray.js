// The picture of the next question: shown from the moment that it is chosen, for a large one takes its time.
import { by, say } from "./page.js";
import { prepare, urlOf } from "./picture.js";

let taking = null; // the picture that is being prepared

export const tray = {
  picture: null,

  get isTaking() {
    return Boolean(taking);
  },

  /** Returns whether the file's picture is there now, or null where another was chosen meanwhile, or none. */
  async take(file) {
    const mine = (taking = prepare(file));
    show();
    say("Your picture is being prepared.");
    const picture = await mine.catch(() => null);
    if (taking !== mine) return null;
    this.put(picture ?? this.picture);
    if (picture) say("Your picture is there.");
    return Boolean(picture);
  },

  put(picture) {
    taking = null;
    if (picture !== this.picture) {
      if (this.picture) URL.revokeObjectURL(by("preview").src);
      if (picture) by("preview").src = urlOf(picture.thumbnail);
      else by("preview").removeAttribute("src");
    }
    this.picture = picture;
    show();
  },
};

function show() {
  const { picture } = tray;
  by("picture").hidden = !picture && !taking;
  by("preparing").hidden = !taking;
  by("preview").hidden = Boolean(taking);
  by("picture-name").textContent = taking ? "Preparing …" : (picture?.name ?? "");
}
