// The conversation of this tab, so that a reload shows it again and goes on with it. One entry for each turn: while an answer
// grows only its own is written. The picture that was asked about is kept while its answer is not there, for asking again.
import { inTab } from "./kept.js";

const HEAD = "conversation"; // {session, hasPicture, first, next}: the turns numbered `first` to before `next` are kept
const PICTURE = "picture";
const nothing = () => ({ session: null, hasPicture: false, first: 0, next: 0 });
const name = (number) => `turn ${number}`;
let head = { ...nothing(), ...inTab.get(HEAD) };
let lastPicture = null; // that was asked about since the page was loaded

export const conversation = {
  get session() {
    return head.session;
  },
  /** Whether the service has a picture of this session. */
  get hasPicture() {
    return head.hasPicture;
  },
  begin(session) {
    change({ session });
  },
  pictureArrived(session) {
    if (session === head.session && !head.hasPicture) change({ hasPicture: true });
  },
  /** The service has lost the session. Returns its picture if that is still here. */
  pictureLost() {
    change({ hasPicture: false });
    if (lastPicture) write(PICTURE, lastPicture); // it is asked about once more
    return lastPicture;
  },

  /** The number of a new turn, and with it the picture that it asks about. */
  add(base64) {
    inTab.remove(PICTURE);
    if (base64) write(PICTURE, (lastPicture = base64));
    change({ next: head.next + 1 });
    return head.next - 1;
  },
  keep(number, turn) {
    if (number < head.first || number >= head.next) return; // of a conversation that is over
    write(name(number), turn);
    if (turn.state === "ended") inTab.remove(PICTURE);
  },

  /** What there is, oldest first, each with its number; the last with its picture if that may still be needed. */
  turns() {
    const found = [];
    for (let number = head.first; number < head.next; number += 1) {
      const turn = inTab.get(name(number));
      if (turn) found.push({ ...turn, number });
    }
    const picture = inTab.get(PICTURE);
    if (picture && found.length) found.at(-1).question.base64_image = picture;
    return found;
  },
  /** Returns what it has forgotten, for `bringBack`. */
  forget() {
    const kept = { head, lastPicture, entries: names().map((key) => [key, inTab.get(key)]) };
    for (const key of names()) inTab.remove(key);
    lastPicture = null;
    change({ ...nothing(), first: head.next, next: head.next });
    return kept;
  },
  bringBack(kept) {
    ({ lastPicture } = kept);
    for (const [key, value] of kept.entries) if (value) inTab.set(key, value);
    change(kept.head);
  },
};

/** The entries of the conversation but for its head. */
function names() {
  return [PICTURE, ...Array.from({ length: head.next - head.first }, (_, index) => name(head.first + index))];
}

function change(what) {
  head = { ...head, ...what };
  write(HEAD, head);
}

/** Writes an entry; where there is no room the oldest turns go. */
function write(key, value) {
  while (!inTab.set(key, value) && head.first < head.next - 1) {
    inTab.remove(name(head.first));
    head.first += 1;
  }
}
