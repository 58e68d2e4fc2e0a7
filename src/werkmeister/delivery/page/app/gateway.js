// The engine behind HTTP: a werkmeister gateway, asked as any OpenAI client asks it.

const KEY = 'werkmeister key';

/** An answer that did not come: `code` is the gateway's, "key" or "context" where the page can do something. */
export class EngineFailure extends Error {
  constructor(message, code = '') {
    super(message);
    this.code = code;
  }
}

export class GatewayEngine {
  constructor(about) {
    this.about = about;
    this.kind = 'gateway';
  }

  get key() {
    return sessionStorage.getItem(KEY) ?? '';
  }

  /** The key is kept until the tab is closed. */
  set key(value) {
    sessionStorage.setItem(KEY, value);
  }

  /** Nothing to load. */
  async prepare() {}

  /** Ask; `said(text)` gets each piece. Returns what is known of the answer. */
  async answer(messages, { signal, said, ...more }) {
    const response = await fetch('v1/chat/completions', {
      method: 'POST',
      signal,
      headers: { 'Content-Type': 'application/json', ...(this.key ? { Authorization: `Bearer ${this.key}` } : {}) },
      body: JSON.stringify({ messages, stream: true, ...more }),
    });
    if (!response.ok) throw await failure(response);
    const facts = {};
    for await (const event of events(response.body)) {
      if (event === '[DONE]') return facts;
      const body = JSON.parse(event);
      if (body.error) throw new EngineFailure(body.error.message, body.error.code);
      const choice = body.choices?.[0];
      if (choice?.delta?.content) said(choice.delta.content);
      if (choice?.finish_reason) facts.finish = choice.finish_reason;
      Object.assign(facts, body.werkmeister?.answers?.[0]);
    }
    throw new EngineFailure('', 'broken');
  }
}

async function failure(response) {
  const said = await response.json().catch(() => ({}));
  const { message = `${response.status} ${response.statusText}`, code = '' } = said.error ?? {};
  if (response.status === 401) return new EngineFailure(message, 'key');
  if (response.status === 429) return new EngineFailure(message, 'busy');
  return new EngineFailure(message, code === 'context_length_exceeded' ? 'context' : code);
}

/** The data of server-sent events, one string an event. */
export async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let held = '';
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    held += part.value;
    const whole = held.split(/\r?\n\r?\n/);
    held = whole.pop();
    for (const event of whole) {
      const lines = event.split(/\r?\n/).filter((line) => line.startsWith('data:'));
      if (lines.length) yield lines.map((line) => line.slice(5).replace(/^ /, '')).join('\n');
    }
  }
}
