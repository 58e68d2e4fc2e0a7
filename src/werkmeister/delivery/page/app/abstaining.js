// Whether an answer abstains, by the rules of `werkmeister.grounding.is_refusal`: a test holds the two together.

const SHORT = 200;
const SENTENCE_END = /[.!?](?:\s|$)/;
const EDGES = /^[ .!"'()*-]+|[ .!"'()*-]+$/g;

/** A function that tells it of an answer: it begins with one of the `refusals`, or says in words of its own that it cannot
 * tell. `ownWords` are the patterns of these, {telling, only, condition, turn}. */
export function abstainer(refusals, ownWords) {
  const learnt = refusals.map((refusal) => fold(refusal).replace(/\.+$/, ''));
  const [telling, condition, turn] = ['telling', 'condition', 'turn'].map((name) => new RegExp(ownWords[name], 'gu'));
  const only = new RegExp(`^(?:${ownWords.only})$`, 'u');
  return (answer) => {
    const text = fold(answer);
    if (learnt.some((refusal) => text.startsWith(refusal))) return true;
    const head = opening(text);
    if (only.test(head.replace(EDGES, ''))) return true;
    return [...head.matchAll(telling)].some(({ 0: found, index }) => {
      const clause = head.slice(0, index).split(/[.;:!?]/).at(-1);
      return clause.search(condition) < 0 && !holdsFrom(turn, text, index + found.length);
    });
  };
}

/** All of a short text, the first sentence of a longer one, nothing of a long sentence. */
function opening(text) {
  const characters = [...text];
  if (characters.length <= SHORT) return text;
  const end = characters.slice(0, SHORT).join('').search(SENTENCE_END);
  return end < 0 ? '' : text.slice(0, end);
}

function holdsFrom(pattern, text, place) {
  pattern.lastIndex = place;
  return pattern.test(text);
}

const fold = (text) => text.normalize('NFKC').replaceAll('’', "'").toLowerCase().replaceAll('ß', 'ss').split(/\s+/).join(' ').trim();
