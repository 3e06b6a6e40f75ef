// A real OpenID provider under TLS on loopback, and beside it issuers that misbehave.
// issuer.mjs PORT CERTIFICATE KEY: serves https://localhost:PORT.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import Provider from 'oidc-provider';

const [port, certificate, key] = process.argv.slice(2);
const issuer = `https://localhost:${port}`;

// A client that asks with `resource` gets a JWT whose audience that is and whose subject is the client.
const provider = new Provider(issuer, {
  clients: [{
    client_id: 'robot', client_secret: 'robot-secret', grant_types: ['client_credentials'], redirect_uris: [], response_types: [],
  }],
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (_context, resource) => ({
        audience: resource.slice('urn:for:'.length), scope: '', accessTokenFormat: 'jwt', accessTokenTTL: 600,
      }),
    },
  },
});
const answer = provider.callback();

// How often each issuer was asked.
const asked = {};
const misbehave = {
  redirect: (response) => response.writeHead(302, { Location: `${issuer}/.well-known/openid-configuration` }).end(),
  large: (response) => response.end(JSON.stringify({ issuer: `${issuer}/large`, jwks_uri: `${issuer}/jwks`, x: 'x'.repeat(300 << 10) })),
  other: (response) => response.end(JSON.stringify({ issuer, jwks_uri: `${issuer}/jwks` })),
  plain: (response) => response.end(JSON.stringify({ issuer: `${issuer}/plain`, jwks_uri: 'http://localhost:1/jwks' })),
  stall: () => {},
};

createServer({ cert: readFileSync(certificate), key: readFileSync(key) }, (request, response) => {
  const name = request.url.split('/')[1];
  if (request.url === '/asked') return response.end(JSON.stringify(asked));
  asked[request.url] = (asked[request.url] ?? 0) + 1;
  if (misbehave[name]) return misbehave[name](response);
  return answer(request, response);
}).listen(Number(port), '127.0.0.1');
