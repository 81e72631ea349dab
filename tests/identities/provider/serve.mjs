// A real OpenID provider on loopback, for tests: it mints identities with the claims that it is asked for, signs
// them with the newest of its keys, and rotates those when told to.
// Arguments: certificate, its key. Commands come as lines of JSON on standard input, answers go out the same way.

import { createServer } from 'node:https';
import { readFileSync } from 'node:fs';
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { createInterface } from 'node:readline';
import Provider from 'oidc-provider';

const [certificate, key] = process.argv.slice(2);
const resource = 'urn:piste:test';
let provider;
// The provider finds what its own addresses begin with by comparing the two addresses of a request.
const speak = (request, response) => {
  request.originalUrl = request.url;
  request.url = request.url.startsWith(`${folder}/`) ? request.url.slice(folder.length) : '/none';
  provider.callback()(request, response);
};
let answer = speak;

const kinds = {
  RS256: () => generateKeyPairSync('rsa', { modulusLength: 2048 }),
  RSA1024: () => generateKeyPairSync('rsa', { modulusLength: 1024 }),
  ES256: () => generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  EdDSA: () => generateKeyPairSync('ed25519'),
};

function makeKey(algorithm, kid) {
  return { ...kinds[algorithm]().privateKey.export({ format: 'jwk' }), kid, alg: algorithm, use: 'sig' };
}

// What the next identity says: set by `mint`, read when the provider signs.
let wish = {};

function serveWith(keys, algorithm) {
  provider = new Provider(issuer, {
    jwks: { keys },
    clients: [{
      client_id: 'ci', client_secret: 'ci', grant_types: ['client_credentials'], redirect_uris: [],
      response_types: [], id_token_signed_response_alg: algorithm,
    }],
    enabledJWA: { idTokenSigningAlgValues: ['RS256', 'ES256', 'EdDSA'] },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: () => ({
          scope: '', audience: resource, accessTokenFormat: 'jwt', accessTokenTTL: 300,
          jwt: { sign: { alg: algorithm } },
        }),
      },
    },
    formats: {
      customizers: {
        jwt(context, token, parts) {
          parts.header = { typ: 'JWT', ...wish.header };
          Object.assign(parts.payload, wish.claims);
          for (const name of wish.without ?? []) delete parts.payload[name];
          return parts;
        },
      },
    },
  });
}

const server = createServer(
  { cert: readFileSync(certificate), key: readFileSync(key) },
  (request, response) => answer(request, response),
);
await new Promise((done) => server.listen(0, '127.0.0.1', done));
// A port comes back, and a hub keeps the keys of an issuer that it has asked: no issuer is another's namesake.
const folder = `/${randomUUID()}`;
const issuer = `https://localhost:${server.address().port}${folder}`;
serveWith([makeKey('RS256', 'first')], 'RS256');

const silent = () => {};
const commands = {
  rotate: ({ algorithm, kid }) => serveWith([makeKey(algorithm, kid)], algorithm),
  mint(asked) { wish = asked; },
  // The process stays, but says nothing any more: what a client of a slow server sees.
  silence() { answer = silent; },
  redirect({ to }) { answer = (_, response) => response.writeHead(302, { location: to }).end(); },
  flood() {
    answer = (_, response) => {
      response.writeHead(200, { 'content-type': 'application/json' });
      const more = () => { while (response.write('x'.repeat(65536))); };
      response.on('drain', more);
      more();
    };
  },
  speak() { answer = speak; },
};

process.stdout.write(`${JSON.stringify({ issuer })}\n`);
for await (const line of createInterface({ input: process.stdin })) {
  const { command, ...asked } = JSON.parse(line);
  commands[command](asked);
  process.stdout.write('{}\n');
}
process.exit(0);
