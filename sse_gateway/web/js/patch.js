// Puts new nodes in the place of old ones and leaves alone what is the same, so that nothing flickers, a selection stays, and a
// wide table or program stays where the student has scrolled it to.
import { isFormula, sameFormula } from "./maths.js";

/** Makes `next` of `old`, which are the last nodes in `place`, and returns the nodes that are there now. */
export function patch(place, old, next) {
  const stays = old[0]?.parentNode === place ? old : [];
  const nodes = next.map((node, index) => (stays[index] ? morphed(stays[index], node) : place.appendChild(node)));
  for (const node of old) if (!nodes.includes(node)) node.remove();
  return nodes;
}

function morphed(old, node) {
  if (old.nodeType === Node.TEXT_NODE && node.nodeType === Node.TEXT_NODE) return retold(old, node.data);
  if (isFormula(old) ? sameFormula(old, node) : old.isEqualNode(node)) return old;
  if (isFormula(old) || isFormula(node) || !old.cloneNode().isEqualNode(node.cloneNode())) {
    old.replaceWith(node);
    return node;
  }
  patch(old, [...old.childNodes], [...node.childNodes]);
  return old;
}

function retold(old, text) {
  if (text.startsWith(old.data)) old.appendData(text.slice(old.length));
  else old.data = text;
  return old;
}
