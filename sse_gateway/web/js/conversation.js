// The conversation of this tab, so that a reload shows it again and goes on with it. One entry for each turn: while an answer
// grows only its own is written. The picture that was asked about is kept while its answer is not there, for asking again.
import { inTab } from "./kept.js";

const HEAD = "conversation"; // {session, hasPicture, first, next}: the turns numbered `first` to before `next` are kept
const PICTURE = "picture";
const nothing = () => ({ session: null, hasPicture: false, first: 0, next: 0 });
const name = (number) => `turn ${number}`;
let head = { ...nothing(), ...inTab.get(HEAD) };

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

  /** The number of a new turn, and with it the picture that it asks about. */
  add(base64) {
    inTab.remove(PICTURE);
    if (base64) write(PICTURE, base64);
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
  forget() {
    for (let number = head.first; number < head.next; number += 1) inTab.remove(name(number));
    inTab.remove(PICTURE);
    change({ ...nothing(), first: head.next, next: head.next });
  },
};

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
