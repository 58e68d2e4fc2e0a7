// Terms of German and English text, by the rules of `werkmeister.consulting.words`: a test holds the two together.

const RUN = /[\p{L}\p{N}]+(?:[-_./+][\p{L}\p{N}]+)*/gu;
const PIECE = /[\p{L}\p{N}]+/gu;
const PARTS = /[\p{L}\p{Nl}\p{No}]+|\p{Nd}+/gu;
const SPELT = /(?<![aeiouq])([aou])e(?![aeiou])/g;
const UMLAUTS = { ä: 'a', ö: 'o', ü: 'u', ß: 'ss', æ: 'a', ø: 'o' };
const ENDINGS = ['ings', 'ing', 'ern', 'em', 'en', 'er', 'es', 'ed', 'e', 'n', 's'];
const LINKS = ['', 's', 'n', 'en', 'es', 'er'];
const LEAST_STEM = 4;
const LEAST_PART = 4;
const LEAST_COMPOUND = 9;
const LONGEST_CODE = 24;
const LITTLE = {
  en: 'a about all am an and any are as at be been but by can could did do does for from had has have how i if in into is it its me my no not of on one or our out please shall should so some tell than that the their them then there these they this those to up us was we were what when where which who whose why will with would you your'.split(' '),
  de: 'aber alle als am an auch auf aus bei beim bin bis bitte da das dass dem den der des die dies diese diesem diesen dieser dieses dir du durch ein eine einem einen einer eines er es fur hat ich ihr im in ins ist ja kann kein keine man mein meine mich mir mit muss nach nicht noch oder ob sage sich sie sind so soll um und uns unter von vom vor wann warum was welche welchem welchen welcher welches wenn wer werden wie wird wir wo wozu wurde zu zum zur uber'.split(' '),
};
export const STOPS = new Set([...LITTLE.en, ...LITTLE.de]);
const ONLY = { en: new Set(LITTLE.en.filter((word) => !LITTLE.de.includes(word))), de: new Set(LITTLE.de.filter((word) => !LITTLE.en.includes(word))) };

const isWord = (text) => /^\p{L}+$/u.test(text);
const isNumber = (text) => /^\p{Nd}+$/u.test(text);

/** A text without case, accents and umlauts. */
export function fold(text) {
  const plain = text.normalize('NFKC').toLowerCase().replace(/[äöüßæø]/g, (letter) => UMLAUTS[letter]);
  return plain.normalize('NFKD').replace(/\p{Mn}/gu, '').replace(SPELT, '$1');
}

/** A folded word without its ending. */
export function stem(word) {
  if (word.length <= LEAST_STEM || !isWord(word)) return word;
  const ending = ENDINGS.find((one) => word.endsWith(one) && word.length - one.length >= LEAST_STEM);
  return ending ? word.slice(0, -ending.length) : word;
}

/** The folded words of a text; a run such as "mh-s314" stands as its pieces, and joined when it has a digit. */
export function words(text) {
  const found = [];
  for (const [run] of fold(text).matchAll(RUN)) {
    const pieces = run.match(PIECE);
    found.push(...pieces);
    if (pieces.length > 1 && run.length <= LONGEST_CODE && /\p{Nd}/u.test(run)) found.push(pieces.join(''));
  }
  return found;
}

/** The terms of a text in its order; `split` parts a folded word. */
export const terms = (text, split) => words(text).flatMap((word) => forms(word, split));

function forms(word, split) {
  if (isWord(word)) return [stem(word), ...(split ? split(word).map(stem) : [])];
  if (isNumber(word) || word.length > LONGEST_CODE) return [stem(word)];
  const parts = word.match(PARTS) ?? [];
  return [stem(word), ...(parts.length > 1 ? parts.map(stem) : [])];
}

/** "de" or "en" by the little words and umlauts of a text; `otherwise` where they do not tell. */
export function languageOf(text, otherwise = 'en') {
  const found = fold(text).split(/\s+/).map((word) => word.replace(/^[.,;:!?]+|[.,;:!?]+$/g, ''));
  const count = (language) => found.filter((word) => ONLY[language].has(word)).length;
  const german = count('de') + (text.toLowerCase().match(/[äöü]/g) ?? []).length;
  const english = count('en');
  if (german === english) return otherwise;
  return german > english ? 'de' : 'en';
}

/** A function that parts German compounds into words of the set `known`. */
export function compounds(known) {
  const parted = new Map();
  const part = (word) => {
    for (let cut = LEAST_PART; cut <= word.length - LEAST_PART; cut++) {
      const tail = word.slice(cut);
      if (!known.has(tail)) continue;
      const head = word.slice(0, cut);
      for (const link of LINKS) {
        const bare = link && head.endsWith(link) ? head.slice(0, -link.length) : head;
        if (bare.length >= LEAST_PART && known.has(bare)) return [bare, tail];
      }
      const inner = head.length >= LEAST_COMPOUND ? part(head) : [];
      if (inner.length) return [...inner, tail];
    }
    return [];
  };
  return (word) => {
    if (word.length < LEAST_COMPOUND || !isWord(word)) return [];
    if (!parted.has(word)) parted.set(word, part(word));
    return parted.get(word);
  };
}
