// Brings what the page carries of others from node_modules into the package data, and checks the page's modules.
//
//   npm ci && npm run build
//
// The page itself has no build: its modules stand in src/werkmeister/delivery/page/ as browsers load them.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';

const here = dirname(fileURLToPath(import.meta.url));
const page = join(here, '..', 'src', 'werkmeister', 'delivery', 'page');
const from = join(here, 'node_modules', '@wllama', 'wllama');
const vendor = join(page, 'vendor');
const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');

const about = JSON.parse(readFileSync(join(from, 'package.json'), 'utf8'));
const script = readFileSync(join(from, 'esm', 'index.min.js'));
const wasm = readFileSync(join(from, 'esm', 'wasm', 'wllama.wasm'));
const source = readFileSync(join(from, 'src', 'workers-code', 'generated.ts'), 'utf8');
mkdirSync(vendor, { recursive: true });
writeFileSync(join(vendor, 'wllama.js'), script);
// Gzip, since the file goes into every copy of the repository and every wheel; a bundle gets it unpacked.
const packed = gzipSync(wasm, { level: 9 });
packed[9] = 255; // the byte that names the machine it was packed on: "unknown" everywhere
writeFileSync(join(vendor, 'wllama.wasm.gz'), packed);
writeFileSync(join(vendor, 'wllama-licence.txt'), readFileSync(join(from, 'LICENCE')));
const facts = {
  name: about.name,
  version: about.version,
  licence: about.license ?? 'MIT',
  llama_cpp: /LIBLLAMA_VERSION\s*=\s*['"`]([^'"`]+)/.exec(source)?.[1] ?? 'unknown',
  sha256: { 'wllama.js': sha256(script), 'wllama.wasm': sha256(wasm) },
};
writeFileSync(join(vendor, 'wllama.json'), JSON.stringify(facts, null, 2) + '\n');

for (const name of readdirSync(page, { recursive: true })) {
  if (name.endsWith('.js') && !name.startsWith('vendor')) execFileSync(process.execPath, ['--check', join(page, name)]);
}
console.log(`${facts.name} ${facts.version} (llama.cpp ${facts.llama_cpp}): ${wasm.length} bytes, packed ${packed.length}`);
