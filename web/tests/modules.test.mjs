// The page's modules outside a browser: what needs no document.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { test } from 'node:test';

const app = new URL('../../src/werkmeister/delivery/page/app/', import.meta.url);
const load = (name) => import(new URL(name, app));
const { Sha256 } = await load('sha256.js');
const { address, inline, parse } = await load('markdown.js');
const kept = await load('conversations.js');
const { events } = await load('gateway.js');
const { requestOf, threadsFor } = await load('local.js');
const { sourcesOf, unsupported } = await load('turns.js');
const { LANGUAGES } = await load('words.js');

test('sha256 in pieces of any size is that of node', () => {
  for (const size of [0, 1, 55, 56, 63, 64, 65, 119, 120, 1000, 70001]) {
    const bytes = randomBytes(size);
    const hash = new Sha256();
    for (let at = 0; at < size; ) {
      const step = 1 + Math.floor(Math.random() * 200);
      hash.add(bytes.subarray(at, at + step));
      at += step;
    }
    assert.equal(hash.digest(), createHash('sha256').update(bytes).digest('hex'), `${size} bytes`);
  }
});

test('sha256 counts bits beyond 32', () => {
  // 2^29 bytes are 2^32 bits; the reference is node's.
  const piece = new Uint8Array(1 << 24).fill(7);
  const hash = new Sha256();
  const reference = createHash('sha256');
  for (let i = 0; i < 33; i++) {
    hash.add(piece);
    reference.update(piece);
  }
  assert.equal(hash.digest(), reference.digest('hex'));
});

test('blocks of markdown are told apart', () => {
  const text = '# Head\n\nOne\ntwo\n\n- a\n- b\n  - c\n\n1. x\n2. y\n\n> said\n\n```js\n<b>*\n```\n\n| A | B |\n|---|---|\n| 1 | 2 |\n\n---';
  const kinds = parse(text).map(({ kind }) => kind);
  assert.deepEqual(kinds, ['h', 'p', 'list', 'list', 'quote', 'code', 'table', 'rule']);
  const [, , bullets, numbers, , code, table] = parse(text);
  assert.deepEqual(bullets.items.map((item) => item.map(({ kind }) => kind)), [['p'], ['p', 'list']]);
  assert.equal(numbers.ordered, true);
  assert.deepEqual({ ...code }, { kind: 'code', language: 'js', text: '<b>*' });
  assert.deepEqual(table.rows, [[['1'], ['2']]]);
});

test('a fence that is still open is code to its end, as while an answer streams in', () => {
  assert.deepEqual(parse('```\n**no**'), [{ kind: 'code', language: '', text: '**no**' }]);
});

test('inline marks wrap, nest, and leave words and lone marks alone', () => {
  assert.deepEqual(inline('a **b *c* d** e'), ['a ', { kind: 'strong', inside: ['b ', { kind: 'em', inside: ['c'] }, ' d'] }, ' e']);
  assert.deepEqual(inline('snake_case_name 2 * 3 * 4'), ['snake_case_name 2 * 3 * 4']);
  assert.deepEqual(inline('`a*b*`'), [{ kind: 'code', text: 'a*b*' }]);
  assert.deepEqual(inline('\\*plain\\*'), ['*plain*']);
});

test('no address but http, https and mailto becomes a link, and no picture is loaded', () => {
  for (const bad of ['javascript:alert(1)', 'JaVaScRiPt:alert(1)', 'data:text/html,x', 'vbscript:x', 'file:///etc/passwd', '//x', 'x']) {
    assert.equal(address(bad), '', bad);
    assert.ok(!JSON.stringify(inline(`[t](${bad})`)).includes('"a"'), bad);
  }
  assert.deepEqual(inline('![alt](https://x.example/p.png)'), ['alt']);
  assert.deepEqual(inline('[t](https://x.example/a_(b))'), [{ kind: 'a', href: 'https://x.example/a_(b)', inside: ['t'] }]);
  assert.deepEqual(inline('see https://x.example/a.'), ['see ', { kind: 'a', href: 'https://x.example/a', inside: ['https://x.example/a'] }, '.']);
});

const textOf = (nodes) => nodes.map((node) => (typeof node === 'string' ? node : node.text ?? (node.inside ? textOf(node.inside) : ''))).join('');

test('random text neither hangs nor throws, and plain words are never lost', () => {
  const marks = ['*', '**', '_', '`', '[', ']', '(', ')', '<', '>', '!', '\n', '\n\n', '- ', '1. ', '> ', '|', '---', '#', ' ', '\\', '~~', 'http://'];
  for (let round = 0; round < 3000; round++) {
    let text = '';
    for (let i = 0; i < 40; i++) text += Math.random() < 0.4 ? `w${i}` : marks[Math.floor(Math.random() * marks.length)];
    parse(text);
    const line = text.replaceAll('\n', ' ').replaceAll('http://', '');
    const words = line.match(/w\d+/g) ?? [];
    const shown = textOf(inline(line));
    const unlinked = words.filter((word) => !line.includes('](') && !shown.includes(word));
    assert.deepEqual(unlinked, [], line);
  }
});

test('a long hostile text is read in a moment', () => {
  for (const piece of ['*', '[', '`', '**a', '_a', '[a](', '> ', '|', '- a\n', '![', '<http://', '~~']) {
    const begin = performance.now();
    parse(piece.repeat(Math.ceil(20000 / piece.length)));
    assert.ok(performance.now() - begin < 2000, `${piece}: ${performance.now() - begin} ms`);
  }
});

class Store {
  #held = new Map();
  get length() {
    return this.#held.size;
  }
  key(number) {
    return [...this.#held.keys()][number];
  }
  getItem(key) {
    return this.#held.get(key) ?? null;
  }
  setItem(key, value) {
    this.#held.set(key, value);
  }
  removeItem(key) {
    this.#held.delete(key);
  }
}

test('conversations are kept, listed with the latest first, and deleted; what is broken is passed over', () => {
  const store = new Store();
  store.setItem('another page', '{}');
  const first = { ...kept.fresh(), name: 'first', turns: [{ role: 'user', content: 'a' }] };
  const second = { ...kept.fresh(), name: 'second' };
  kept.save(first, store);
  kept.save(second, store);
  store.setItem(`${store.key(1)}x`, '{broken');
  second.changed += 1;
  assert.deepEqual(new Set(kept.list(store).map(({ name }) => name)), new Set(['first', 'second']));
  assert.equal(kept.load(first.id, store).turns[0].content, 'a');
  kept.removeAll(store);
  assert.equal(kept.list(store).length, 0);
  assert.ok(store.getItem('another page'));
});

test('questions without an answer are left out once another follows, so that turns alternate', () => {
  const turns = ['user a', 'assistant ', 'user b', 'assistant B', 'user c'].map((text) => {
    const [role, content] = text.split(' ');
    return { role, content, facts: {} };
  });
  assert.deepEqual(kept.messages(turns), [{ role: 'user', content: 'b' }, { role: 'assistant', content: 'B' }, { role: 'user', content: 'c' }]);
  assert.deepEqual(kept.shortened(kept.messages(turns)), [{ role: 'user', content: 'c' }]);
  assert.equal(kept.shortened([{ role: 'user', content: 'c' }]), null);
});

test('server-sent events are put together over any cut', async () => {
  const bytes = new TextEncoder().encode('data: {"a":"ä"}\r\n\r\n: note\n\ndata: one\ndata: two\n\ndata: [DONE]\n\n');
  for (const size of [1, 2, 3, 7, 100]) {
    const stream = new ReadableStream({
      start(control) {
        for (let at = 0; at < bytes.length; at += size) control.enqueue(bytes.slice(at, at + size));
        control.close();
      },
    });
    const found = [];
    for await (const event of events(stream)) found.push(event);
    assert.deepEqual(found, ['{"a":"ä"}', 'one\ntwo', '[DONE]'], `pieces of ${size}`);
  }
});

test('sources are what is cited; without citations the passages that were given', () => {
  const passages = [{ id: 'p1', place: 'a.pdf, p. 3', text: 'The limit is 3 bar.' }];
  assert.deepEqual(sourcesOf({ passages }), [{ place: 'a.pdf, p. 3', text: 'The limit is 3 bar.' }]);
  const [source] = sourcesOf({ passages, citations: [{ passage: 'p1', start: 13, end: 18 }] });
  assert.deepEqual([source.place, source.ranges.map(([start, end]) => source.text.slice(start, end)), source.cited], ['a.pdf, p. 3', ['3 bar'], true]);
  assert.equal(sourcesOf({ citations: ['p1'], passages })[0].place, 'a.pdf, p. 3');
  assert.equal(sourcesOf({ citations: ['b.pdf, p. 1'] })[0].place, 'b.pdf, p. 1');
  assert.deepEqual(sourcesOf({}), []);
});

test('places that overlap in one passage are marked once, and what no source holds is told apart', () => {
  const passages = [{ id: 'p1', place: 'a', text: '0123456789' }];
  const citations = [
    { support: 'verbatim', passage: 'p1', start: 6, end: 8, sentence: [0, 2] },
    { support: 'words', passage: 'p1', start: 1, end: 3, sentence: [2, 4] },
    { support: 'words', passage: 'p1', start: 2, end: 5, sentence: [4, 6] },
    { support: 'none', sentence: [1, 3] },
    { support: 'words', passage: 'p1', start: 8, end: 99, sentence: [4, 6] },
  ];
  const sources = sourcesOf({ passages, citations });
  assert.deepEqual(sources.map(({ ranges }) => ranges), [[[1, 5], [6, 8]]]);
  assert.deepEqual(unsupported('😀abc', citations), ['ab']);
});

test('greedy requests are greedy whatever the sampler chain would do', () => {
  const greedy = requestOf({ temperature: 0, max_tokens: 5, stop: ['</s>'], schema: null });
  assert.ok(!('logprobs' in greedy)); // see the comment there
  assert.deepEqual([greedy.top_k, greedy.samplers, greedy.stop, greedy.max_tokens], [1, ['top_k'], ['</s>'], 5]);
  assert.equal(requestOf({ temperature: 0.7, max_tokens: 5, stop: [], schema: null }).top_k, 0);
  assert.equal(requestOf({ temperature: 0, max_tokens: 5, stop: [], schema: { type: 'object' } }).response_format.type, 'json_schema');
});

test('threads are half of the cores at most, and one where the page is not isolated', () => {
  assert.deepEqual([1, 2, 4, 8, 64].map((cores) => threadsFor(cores, true)), [1, 1, 2, 4, 8]);
  assert.equal(threadsFor(8, false), 1);
});

test('both languages say everything', () => {
  const shape = (words) => Object.entries(words).map(([key, value]) => `${key}:${typeof value}${value && typeof value === 'object' ? `{${shape(value)}}` : ''}`).sort().join();
  const { en, de } = LANGUAGES;
  assert.equal(shape(de), shape(en));
});
