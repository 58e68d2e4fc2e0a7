// Citations: where in the passages each sentence of an answer stands, and which sentences stand nowhere. By the rules of
// `werkmeister.consulting.citations`, which says more of the method: a test holds the two together.
import { shown } from './library.js';
import { fold, stem, STOPS, terms, words } from './terms.js';

const SHARE = 0.6;
const LINE_COSTS = 0.01;
const CONTEXT = 0.05;
const FRAME = new Set(
  fold(
    'value values option options setting settings set means mean meaning stand stands choose chosen select selected' +
      ' following answer according called number yes wert werte option optionen einstellung einstellungen stellen' +
      ' gestellt bedeutet bedeuten heißt folgende laut wählen nummer ja lautet',
  )
    .split(' ')
    .map(stem),
);
const JOINED = /[;,(]|(?<![\p{L}\p{N}_])(?:and|or|und|oder|sowie)(?![\p{L}\p{N}_])/gu;
const END = /(?<=[.!?…])["'”“»)\]]*\s+(?=["'„“«(\[]*(?![a-zäöü])[\p{L}\p{N}])|\n+/gu;
const ABBREVIATED =
  /(?<![\p{L}\p{N}_])(?:(?:e\.g|i\.e|z\.\s?b|d\.\s?h|bzw|ca|approx|vgl|ggf|inkl|max|min|nr|no|fig|abb|usw|etc|dr|st|p|s)|\p{Nd}+)\.\n?$/iu;
const QUOTED = /["“„«»‚]([^"“”„«»‘]{3,400}?)["”“»«‘]/gu;
const NUMBER = /(?<![\p{L}\p{N}_.,])[-+−]?\p{Nd}+(?:[.,:]\p{Nd}+)*/gu;
const TOKEN = /[-+−]?\p{Nd}+(?:[.,:]\p{Nd}+)*|[\p{L}\p{N}]+/gu;
const CLOSING = /^["'”“»)\]]+/u;
const EDGE = ' \t\n-*•|#>.,;:!?"\'„“”«»()[]';

/** A citation for every sentence of an answer: {sentence, support} with support "none", or with "verbatim" or "words"
 * {sentence, support, passage, place, start, end, quote} as well. Positions count whole characters, as Python does.
 * None for an answer of which `abstains` is true, and none without passages. */
export function cite(answer, passages, question = '', abstains = () => false) {
  if (!passages.length || abstains(answer)) return [];
  return sentences(answer).map(([start, end]) => {
    const sentence = [count(answer, start), count(answer, end)];
    const found = support(answer.slice(start, end), passages, question);
    if (!found) return { sentence, support: 'none' };
    const { passage, place, how } = found;
    const [from, to] = place.map((at) => count(passage.text, at));
    const quote = passage.text.slice(...place);
    return { sentence, support: how, passage: passage.id, place: passage.place, start: from, end: to, quote };
  });
}

/** Whole characters before a position, which JavaScript counts in halves of those beyond the first plane. */
const count = (text, at) => [...text.slice(0, at)].length;

/** The [start, end] of each sentence or line. */
export function sentences(text) {
  const found = [];
  let begin = 0;
  const add = (from, to) => {
    const piece = text.slice(from, to);
    if (piece.trim()) found.push([from + piece.length - piece.trimStart().length, from + piece.trimEnd().length]);
  };
  for (const { 0: mark, index } of text.matchAll(END)) {
    const head = text.slice(begin, index).replace(/["'”“»)\]]+$/u, '');
    if (!mark.includes('\n') && ABBREVIATED.test(head)) continue;
    add(begin, index + (mark.match(CLOSING)?.[0].length ?? 0));
    begin = index + mark.length;
  }
  add(begin, text.length);
  return found;
}

function support(sentence, passages, question) {
  const asked = telling(question);
  let best = null;
  for (const passage of passages) {
    for (const place of verbatim(sentence, passage.text)) {
      const score = shared(asked, telling(around(passage.text, place)));
      if (!best || score > best.score) best = { score, passage, place, how: 'verbatim' };
    }
  }
  if (best) return best;
  const quotes = [...sentence.matchAll(QUOTED)].map(([, quoted]) => quoted);
  if (!quotes.every((quoted) => passages.some((passage) => verbatim(quoted, shown(passage)).length))) return null;
  for (const passage of passages) {
    const found = bestRun(sentence, passage, question);
    if (found && (!best || found.score > best.score)) best = { ...found, passage, how: 'words' };
  }
  return best && best.score >= SHARE ? best : null;
}

/** Every place where a text holds these words one after the other. */
function verbatim(wordsOf, text) {
  const wanted = tokens(wordsOf).map(([, , token]) => token);
  if (!wanted.length) return [];
  const given = tokens(text);
  const found = [];
  for (let at = 0; at + wanted.length <= given.length; at++) {
    if (wanted.every((token, n) => given[at + n][2] === token)) found.push([given[at][0], given[at + wanted.length - 1][1]]);
  }
  return found;
}

const tokens = (text) =>
  [...text.matchAll(TOKEN)].map(({ 0: token, index }) => [index, index + token.length, fold(token.replace('−', '-').replace(/^\++/, ''))]);

/** The lines of a passage that a sentence says again, and how well. */
function bestRun(sentence, passage, question) {
  const given = `${passage.title} ${passage.headings.join(' ')} ${question}`;
  const asked = telling(question);
  const said = without(telling(sentence), FRAME);
  const own = without(said, telling(given));
  const wanted = own.size ? own : said;
  const figures = without(numbers(sentence), numbers(given));
  const most = 1 + (sentence.match(JOINED)?.length ?? 0);
  const lines = [...passage.text.matchAll(/[^\n]+/g)].map(({ 0: line, index }) => ({
    start: index,
    end: index + line.length,
    held: telling(line),
    numbers: numbers(line),
  }));
  let best = null;
  lines.forEach((line, first) => {
    if (!shared(wanted, line.held) && !shared(figures, line.numbers)) return;
    const held = new Set();
    const seen = new Set();
    for (const [last, next] of lines.slice(first, first + most).entries()) {
      next.held.forEach((one) => held.add(one));
      next.numbers.forEach((one) => seen.add(one));
      const covered = shared(wanted, held);
      if (shared(figures, seen) < figures.size || !covered) continue;
      const score = covered / wanted.size - LINE_COSTS * last + CONTEXT * (shared(asked, held) / (asked.size || 1));
      if (!best || score > best.score) best = { score, place: edges(passage.text, line.start, next.end) };
      if (covered === wanted.size) break;
    }
  });
  return best;
}

function around(text, [start, end]) {
  const close = text.indexOf('\n', end);
  return text.slice(text.lastIndexOf('\n', start - 1) + 1, close < 0 ? text.length : close);
}

const telling = (text) => new Set(terms(words(text).filter((word) => !STOPS.has(word)).join(' ')));
const numbers = (text) => new Set([...text.matchAll(NUMBER)].map(([one]) => one.replaceAll('−', '-').replaceAll(',', '.').replace(/^\++/, '')));
const shared = (one, other) => [...one].filter((entry) => other.has(entry)).length;
const without = (one, other) => new Set([...one].filter((entry) => !other.has(entry)));

/** A line without its list marks and table bars. */
function edges(text, from, to) {
  let [start, end] = [from, to];
  while (start < end && EDGE.includes(text[start])) start++;
  while (end > start && ' \t|'.includes(text[end - 1])) end--;
  return [start, end];
}
