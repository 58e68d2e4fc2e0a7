// The engine in this tab: llama.cpp as WebAssembly (wllama) on the expert's own model file.
import { cite } from './citing.js';
import { EngineFailure } from './gateway.js';
import { Library } from './library.js';
import { bring, stored } from './storage.js';

const MOST_THREADS = 8;

/** How many threads to compute with: half of what the browser reports, since that counts each core twice on most
 * machines, and since threads that must wait for one another crawl as soon as something else needs a core. One where the
 * page is not isolated. */
export function threadsFor(reported, isolated) {
  return isolated ? Math.max(1, Math.min(MOST_THREADS, Math.floor(reported / 2))) : 1;
}

/** The graphics processor that could be used: {name}; null where there is none that can compute in half precision. */
export async function findGpu() {
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  if (!adapter?.features.has('shader-f16')) return null;
  const { vendor = '', architecture = '', description = '' } = adapter.info ?? {};
  return { name: description || [vendor, architecture].filter(Boolean).join(' ') || 'WebGPU' };
}

export class LocalEngine {
  constructor(about) {
    this.about = about;
    this.kind = 'browser';
    this.threads = 0;
    this.gpu = null;
    this.loadSeconds = 0;
    this.wllama = null;
    this.library = null;
  }

  /** Whether the model is in this browser's storage. */
  async isStored() {
    return (await stored(this.about.model.files)) !== null;
  }

  /** Store the model unless it is stored, and load it. `tell(stage, loaded, total)`: stage is "storing" or "loading". */
  async prepare({ tell, gpu = null }) {
    const { files } = this.about.model;
    let blobs = await stored(files);
    if (!blobs) {
      await bring(files, (loaded, total) => tell('storing', loaded, total));
      blobs = await stored(files);
    }
    tell('loading', 0, 0);
    if (this.about.library) this.library ??= await Library.read(await (await fetch(this.about.library)).json());
    const begin = performance.now();
    const { Wllama, LoggerWithoutDebug } = await import('../vendor/wllama.js');
    const paths = { default: new URL('../vendor/wllama.wasm', import.meta.url).href };
    const quiet = { ...LoggerWithoutDebug, log: () => {}, warn: (...words) => console.debug(...words) };
    const wllama = new Wllama(paths, { suppressNativeLog: true, logger: quiet });
    wllama.setCompat(null); // otherwise it would fetch another build from a foreign host where this one does not run
    const threads = threadsFor(navigator.hardwareConcurrency || 1, globalThis.crossOriginIsolated === true);
    await wllama.loadModel(blobs, {
      n_ctx: this.about.context_length,
      n_threads: threads,
      n_gpu_layers: gpu ? 99999 : 0,
      n_parallel: 1,
      n_batch: 512,
      jinja: true,
      // Answers are taken as they are; but with this on, llama.cpp would let a schema pass without a word.
      skip_chat_parsing: !this.about.sampling.schema,
      reasoning_format: 'none',
      ctx_shift: false,
    });
    this.wllama = wllama;
    this.threads = wllama.getNumThreads();
    this.gpu = gpu;
    this.loadSeconds = (performance.now() - begin) / 1000;
  }

  /** Free the memory. */
  async close() {
    await this.wllama?.exit();
    this.wllama = null;
  }

  /** Ask; `said(text)` gets each piece. Returns what is known of the answer. `bare` asks without the documents. */
  async answer(messages, { signal, said, bare = false, ...more }) {
    if (!this.library || bare) return this.#answer(messages, { signal, said, ...more });
    const history = messages.slice(0, -1);
    const question = messages.at(-1).content;
    const { passages, language, told } = this.library.find(question, history);
    if (!told) {
      said(this.library.refusal(language));
      return { route: 'local', finish: 'stop' };
    }
    const asked = { role: 'user', content: this.library.openBook(question, passages, language) };
    let text = '';
    const heard = (piece) => {
      text += piece;
      said(piece);
    };
    const facts = await this.#answer([...history, asked], { signal, said: heard, ...more });
    const citations = cite(text, passages, question, this.library.abstains);
    return { ...facts, citations, passages: passages.map(({ id, place, text: held }) => ({ id, place, text: held })) };
  }

  async #answer(messages, { signal, said, ...more }) {
    if (!this.wllama) await this.prepare({ tell: () => {}, gpu: this.gpu });
    const { system, sampling } = this.about;
    const given = messages[0]?.role === 'system' ? messages : [{ role: 'system', content: system }, ...messages];
    const begin = performance.now();
    const facts = { route: 'local', tokens: 0, prompt_tokens: 0, finish: '' };
    const heard = (chunk) => {
      const choice = chunk.choices?.[0];
      if (chunk.usage) {
        facts.prompt_tokens = chunk.usage.prompt_tokens;
        facts.tokens = chunk.usage.completion_tokens;
      }
      if (!choice) return;
      if (choice.delta?.content) {
        facts.first_seconds ??= (performance.now() - begin) / 1000;
        said(choice.delta.content);
      }
      if (choice.finish_reason) facts.finish = choice.finish_reason;
    };
    try {
      await this.wllama.createChatCompletion({
        ...requestOf(sampling),
        ...more,
        messages: system ? given : messages,
        stream: true,
        stream_options: { include_usage: true },
        abortSignal: signal,
        onData: heard,
      });
    } catch (error) {
      if (error.name === 'AbortError') throw error;
      const code = /context/i.test(error.message) ? 'context' : '';
      if (!code) await this.close(); // after an error inside it, it answers nothing more: the next question loads it anew
      throw new EngineFailure(error.message, code);
    }
    facts.seconds = (performance.now() - begin) / 1000;
    return facts;
  }
}

/** The expert's own way of answering, as the gateway's engine puts it to llama.cpp. */
export function requestOf({ temperature, max_tokens, stop, schema }) {
  const drawn = temperature > 0;
  return {
    max_tokens,
    temperature,
    top_k: drawn ? 0 : 1,
    min_p: 0,
    samplers: drawn ? ['temperature', 'top_p'] : ['top_k'],
    stop,
    // No logprobs: wllama 3.13 dies of a token that is half a character, as every umlaut begins with one.
    cache_prompt: true,
    ...(schema ? { response_format: { type: 'json_schema', json_schema: { name: 'answer', schema } } } : {}),
  };
}
