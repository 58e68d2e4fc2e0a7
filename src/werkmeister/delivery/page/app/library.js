// The documents of an expert in the page: finds the passages to answer from by their words, as the lexical half of
// `werkmeister.consulting.library` does (BM25 with title and headings counted twice; the bar below which the documents
// do not tell). Meaning is not searched here: that needs a second model.
import { abstainer } from './abstaining.js';
import { compounds, languageOf, stem, STOPS, terms, words } from './terms.js';

const HEAD = 2;
const K1 = 1.2;
const B = 0.75;
const COMMON = 0.15;
const MOST_TERMS = 24;
const MOST_ROWS = 15000;
const WHOLE_NAME = 0.1;
const NAMES_SAY = 0.5;
const CERTAIN = 0.95;
const CONSTANT = 60;
const EQUAL = 1e-6;
const LEAST_CODE = 4;
const NUMBERED = /[\p{L}\p{N}]+(?:[-_./+'’][\p{L}\p{N}]+)*/gu;
const NAMING = 0.5;
const LEAST_KNOWN = 2;
const CANDIDATES = 100;
const FEW = 2;
const FURTHER = new Set(['more', 'else', 'another', 'further', 'same', 'again', 'too', 'ok', 'okay', 'auch', 'mehr', 'weiter', 'noch', 'anders', 'sonst', 'genau']);
const AT_ONCE = 200; // passages read before the page may breathe

export class Library {
  /** Read {documents, passages, bar, off, language, served, labels, refusals, own_words}; a promise, since many passages
   * take a moment. */
  static async read(held) {
    const made = new Library(held);
    await made.#index();
    return made;
  }

  constructor({ documents, passages, bar, off, language, served, labels, refusals, own_words: ownWords }) {
    Object.assign(this, { documents, passages, bar, off, language, served, labels, refusals });
    this.abstains = abstainer(Object.values(refusals), ownWords);
    this.postings = new Map(); // term → [passage, occurrences in the head, in the body, …]
    this.lengths = new Float64Array(passages.length);
    this.named = []; // the terms of what each document is called
    this.titles = new Map(); // term → how many documents have it in their title
    this.holding = new Map(); // term → how many documents hold it
    this.known = new Set();
  }

  async #index() {
    await this.#learn();
    this.split = compounds(this.known);
    const holds = this.documents.map(() => new Set());
    this.documents.forEach(({ named, title }) => {
      this.named.push(terms(named, this.split));
      for (const term of new Set(terms(title, this.split))) this.titles.set(term, (this.titles.get(term) ?? 0) + 1);
    });
    for (const [number, passage] of this.passages.entries()) {
      const head = [...this.named[passage.document], ...terms(passage.headings.join(' '), this.split)];
      const body = terms(passage.text, this.split);
      this.lengths[number] = head.length + body.length;
      const counts = new Map();
      const add = (term, place) => {
        if (!counts.has(term)) counts.set(term, [0, 0]);
        counts.get(term)[place]++;
        holds[passage.document].add(term);
      };
      head.forEach((term) => add(term, 0));
      body.forEach((term) => add(term, 1));
      for (const [term, [inHead, inBody]] of counts) {
        if (!this.postings.has(term)) this.postings.set(term, []);
        this.postings.get(term).push(number, inHead, inBody);
      }
      if (number % AT_ONCE === AT_ONCE - 1) await breath();
    }
    for (const found of holds) for (const term of found) this.holding.set(term, (this.holding.get(term) ?? 0) + 1);
    this.average = this.lengths.reduce((sum, length) => sum + length, 0) / Math.max(1, this.passages.length);
  }

  /** The words that compounds may be made of: those of several passages, endings off and on. */
  async #learn() {
    const counts = new Map();
    for (const [number, { title, text }] of this.passages.entries()) {
      const found = new Set(words(`${title} ${text}`).filter((word) => word.length > 3 && /^\p{L}+$/u.test(word)));
      for (const word of found) counts.set(word, (counts.get(word) ?? 0) + 1);
      if (number % AT_ONCE === AT_ONCE - 1) await breath();
    }
    for (const [word, count] of counts) {
      if (count < LEAST_KNOWN) continue;
      this.known.add(word);
      this.known.add(stem(word));
    }
  }

  /** What a question is answered from: {passages, language, told}. */
  find(question, history = []) {
    const asked = this.standalone(question, history);
    const hits = this.search(asked, Math.max(this.served, 3));
    const language = languageOf(question, this.language);
    const told = this.off || hits.some((hit) => this.#passes(hit, asked));
    return { passages: told ? hits.slice(0, this.served).map((hit) => hit.passage) : [], language, told };
  }

  /** Whether a passage fits well enough to answer from: above the bar, and of the model that the question names. */
  #passes({ number, passage, coverage }, question) {
    const held = this.#held(number);
    if (!this.#models(question).every((forms) => forms.some((form) => held.has(form)))) return false;
    // A question in another language shares hardly a word with the documents: nothing is known against it by words.
    return languageOf(question, this.language) !== (passage.language || this.language) || coverage >= this.bar;
  }

  /** The model numbers in a question: those that name a document, and those that no document has. */
  #models(question) {
    return codes(question).filter((forms) => this.names(forms.join(' ')).length || !forms.some((form) => this.#count(form)));
  }

  #held(number) {
    const { headings, text, document } = this.passages[number];
    return new Set([...terms(`${headings.join(' ')} ${text}`, this.split), ...this.named[document]]);
  }

  /** The passages for a question, best first: [{number, passage, coverage}]. */
  search(question, limit = 5) {
    const asked = this.termsOf(question);
    const weights = this.#weights(asked);
    const found = this.#byWords(asked, Math.max(CANDIDATES, limit)).map((number) => {
      const coverage = this.#coverage(number, weights);
      return { number, passage: this.passages[number], coverage, ...this.#naming(number, weights, coverage) };
    });
    const byFit = ranks(found, (hit) => hit.fit);
    const byName = ranks(found, (hit) => hit.named);
    const sum = (hit) => 1 / (CONSTANT + byFit.get(hit)) + NAMES_SAY / (CONSTANT + byName.get(hit));
    const order = [...found].sort((a, b) => byFit.get(a) - byFit.get(b)).sort((a, b) => sum(b) - sum(a));
    // All that was asked stands there word for word: the name has a say among equals alone.
    if (found.some((hit) => hit.coverage >= CERTAIN)) order.sort((a, b) => byFit.get(a) - byFit.get(b));
    return order.slice(0, limit).map(({ number, passage, coverage }) => ({ number, passage, coverage }));
  }

  /** How well a passage fits, and how well the question names its document. */
  #naming(number, weights, coverage) {
    const named = new Set(this.named[this.passages[number].document]);
    const given = [...named].filter((term) => weights.has(term));
    const whole = (WHOLE_NAME * given.length) / (named.size || 1);
    return { fit: coverage + whole, named: given.reduce((sum, term) => sum + weights.get(term), 0) * (1 + whole) };
  }

  /** The share of the question's words in a passage, each weighed by how rare it is. */
  #coverage(number, weights) {
    const held = this.#held(number);
    let whole = 0;
    let covered = 0;
    for (const [term, weight] of weights) {
      whole += weight;
      if (held.has(term)) covered += weight;
    }
    return covered / (whole || 1);
  }

  #byWords(asked, limit) {
    const scores = new Map();
    for (const term of this.#worthAsking(asked)) {
      const posting = this.postings.get(term);
      const holding = posting.length / 3;
      const idf = Math.max(1e-6, Math.log((this.passages.length - holding + 0.5) / (holding + 0.5)));
      for (let at = 0; at < posting.length; at += 3) {
        const often = HEAD * posting[at + 1] + posting[at + 2];
        const length = 1 - B + (B * this.lengths[posting[at]]) / this.average;
        const score = (idf * often * (K1 + 1)) / (often + K1 * length);
        scores.set(posting[at], (scores.get(posting[at]) ?? 0) + score);
      }
    }
    return [...scores].sort((a, b) => b[1] - a[1] || a[0] - b[0]).slice(0, limit).map(([number]) => number);
  }

  termsOf(question) {
    const found = words(question);
    const telling = terms(found.filter((word) => !STOPS.has(word)).join(' '), this.split);
    return [...new Set(telling.length ? telling : terms(found.join(' '), this.split))];
  }

  #count = (term) => (this.postings.get(term)?.length ?? 0) / 3;

  #weights(asked) {
    const all = this.passages.length;
    return new Map(asked.map((term) => [term, Math.log((1 + all) / (0.5 + Math.min(this.#count(term), all)))]));
  }

  #worthAsking(asked) {
    const held = asked.filter((term) => this.#count(term) > 0).sort((a, b) => this.#count(a) - this.#count(b));
    const rare = held.filter((term) => this.#count(term) <= Math.max(COMMON * this.passages.length, 20));
    const chosen = [];
    let rows = 0;
    for (const term of (rare.length ? rare : held.slice(0, 2)).slice(0, MOST_TERMS)) {
      rows += this.#count(term);
      if (chosen.length >= 2 && rows > MOST_ROWS) break;
      chosen.push(term);
    }
    return chosen;
  }

  /** The words of a text that name a document: most documents that hold them have them in their title. */
  names(text) {
    return [...new Set(words(text))].filter((word) => {
      if (STOPS.has(word) || word.length < 2 || (/^\p{Nd}+$/u.test(word) && word.length < 3)) return false;
      const titles = this.titles.get(stem(word)) ?? 0;
      return titles > 0 && titles >= NAMING * this.holding.get(stem(word));
    });
  }

  /** What to search for: the question, and after it the words of earlier turns that it leans on. */
  standalone(question, history) {
    const earlier = history.filter((turn) => turn.role !== 'system').reverse();
    if (!earlier.length) return question;
    const carried = [];
    if (!this.names(question).length) {
      const turns = [...earlier.filter((turn) => turn.role === 'user'), ...earlier.filter((turn) => turn.role !== 'user')];
      carried.push(...(turns.map((turn) => this.names(turn.content)).find((found) => found.length) ?? []));
    }
    const telling = (text) => words(text).filter((word) => !STOPS.has(word) && !FURTHER.has(word));
    if (telling(question).length < FEW) carried.push(...telling(earlier.find((turn) => turn.role === 'user')?.content ?? ''));
    const own = new Set(words(question));
    const added = [...new Set(carried)].filter((word) => !own.has(word));
    return added.length ? `${question} (${added.join(' ')})` : question;
  }

  /** The user message in the form in which the expert was trained: the passages, then the question. */
  openBook(question, passages, language) {
    if (!passages.length) return question;
    const [documents, asked] = this.labels[language] ?? this.labels.en;
    return `${documents}:\n${passages.map(shown).join('\n\n')}\n\n${asked}: ${question}`;
  }

  /** The sentence with which the expert abstains. */
  refusal(language) {
    return this.refusals[language] ?? this.refusals.en;
  }
}

/** The model numbers in a question, each in the forms in which a document may have it. */
function codes(question) {
  const isCode = (word) => [...word].length >= LEAST_CODE && /^\p{L}/u.test(word) && /\p{Nd}/u.test(word);
  return (question.match(NUMBERED) ?? []).map((run) => words(run).filter(isCode)).filter((forms) => forms.length);
}

/** The rank of each hit by falling score, counted from 1; hits of equal score share the best rank of theirs. */
function ranks(hits, score) {
  const found = new Map();
  let rank = 0;
  let last = 0;
  for (const [place, hit] of [...hits].sort((a, b) => score(b) - score(a)).entries()) {
    if (!place || score(hit) < last - EQUAL) [rank, last] = [place + 1, score(hit)];
    found.set(hit, rank);
  }
  return found;
}

/** A passage as a model is given it: title and headings on one line, then the text. */
export const shown = ({ title, headings, text }) => `${[...new Set([title, ...headings])].join(' › ')}\n${text}`.trim();

const breath = () => new Promise((resolve) => setTimeout(resolve));
