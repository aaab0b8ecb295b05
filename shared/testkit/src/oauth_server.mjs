// An OpenID Connect issuer that lies when it is told to: oauth2-mock-server, with what it leaves unchecked added.
//
//   node oauth_server.mjs MODULE CLIENT_ID CLIENT_SECRET
//
// MODULE is the entry file of oauth2-mock-server. Prints the issuer's URL once it listens on a free port of the
// loopback interface, and ends when its standard input does. `POST /control` sets what is told (oauth_server.rs says
// what there is); `GET /control` says how often what was asked.
//
// The mock checks PKCE where a verifier is sent, and a code with a challenge once. It does not check the client's
// secret, the redirect URI, or that a verifier is sent at all, and knows no refresh token again: that is done here. As
// Google it gives a refresh token only where `access_type=offline` and a consent were asked for.

import { createHmac, createPublicKey, generateKeyPairSync, sign } from 'node:crypto';
import { createServer } from 'node:http';
import { pathToFileURL } from 'node:url';

const [module, clientId, clientSecret] = process.argv.slice(2);
const { OAuth2Issuer, OAuth2Service } = await import(pathToFileURL(module));

const stranger = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
const counts = { discovery: 0, keys: 0, exchanges: 0, refreshes: 0, revocations: 0 };
/** Refresh tokens that are good. */
const refreshTokens = new Set();
/** Of each code: what the authorization request said. */
const codes = new Map();
let told = {};
let url;
let service;
/** What is published while `keepKeys` is told. */
let keptKeys;

/** A new issuer with one key of its own: what it signed before, nobody can check any more. */
async function startIssuer(algorithm) {
  const issuer = new OAuth2Issuer();
  issuer.url = url;
  await issuer.keys.generate(algorithm);
  service = new OAuth2Service(issuer);
  service.on('beforeAuthorizeRedirect', (redirect, request) => {
    codes.set(redirect.url.searchParams.get('code'), request.query);
  });
  service.on('beforeTokenSigning', (token) => changeToken(token));
  service.on('beforeResponse', (response, request) => answer(response, request));
}

function changeToken(token) {
  const now = Math.floor(Date.now() / 1000);
  const person = { email: 'ada@example.com', email_verified: true, name: 'Ada' };
  // the mock takes the client's id as it stands in the header, where it is encoded
  Object.assign(token.payload, { aud: clientId }, person, told.claims ?? {});
  for (const [claim, seconds] of Object.entries(told.times ?? {})) {
    token.payload[claim] = now + seconds;
  }
  for (const claim of told.without ?? []) {
    delete token.payload[claim];
  }
}

function answer(response, request) {
  const refusal = refusalOf(request);
  if (refusal) {
    response.statusCode = refusal === 'invalid_client' ? 401 : 400;
    response.body = { error: refusal };
    return;
  }
  if (told.signature) {
    response.body.id_token = signedOtherwise(response.body.id_token, told.signature);
  }
  const asked = codes.get(request.body.code);
  response.body.scope = told.scope ?? asked.scope;
  delete response.body.refresh_token;
  if (asked.access_type === 'offline' && asked.prompt?.includes('consent')) {
    response.body.refresh_token = told.refreshToken ?? `refresh-token-${codes.size}`;
    refreshTokens.add(response.body.refresh_token);
  }
}

/** An access token for a refresh token, as Google's own library asks for it: in JSON. */
async function refresh(request, response) {
  counts.refreshes += 1;
  const asked = JSON.parse(await bodyOf(request));
  const isClient = asked.client_id === clientId && asked.client_secret === clientSecret;
  if (!isClient) return json(response, { error: 'invalid_client' }, 401);
  if (asked.grant_type !== 'refresh_token') return json(response, { error: 'unsupported_grant_type' }, 400);
  if (!refreshTokens.has(asked.refresh_token)) {
    return json(response, { error: 'invalid_grant', error_description: 'Token has been expired or revoked.' }, 400);
  }
  const token = told.accessToken ?? `access-token-${counts.refreshes}`;
  return json(response, { access_token: token, expires_in: 3600, token_type: 'Bearer' });
}

async function revoke(request, response) {
  counts.revocations += 1;
  const form = new URLSearchParams(await bodyOf(request));
  return refreshTokens.delete(form.get('token')) ? json(response, {}) : json(response, { error: 'invalid_token' }, 400);
}

/** What of the permissions that are asked for is granted, as Resource Manager tells; who is not told them knows no project. */
async function permissions(request, response) {
  const asked = JSON.parse(await bodyOf(request)).permissions;
  if (!told.permissions) return json(response, { error: { code: 404, message: 'no such project' } }, 404);
  if (!request.headers.authorization?.startsWith('Bearer ')) return json(response, {}, 401);
  const granted = asked.filter((permission) => told.permissions === 'all' || told.permissions.includes(permission));
  return json(response, granted.length > 0 ? { permissions: granted } : {});
}

function refusalOf(request) {
  const asked = codes.get(request.body.code);
  if (!isClient(request)) return 'invalid_client';
  if (!asked || asked.client_id !== clientId) return 'invalid_grant';
  if (asked.redirect_uri !== request.body.redirect_uri) return 'invalid_grant';
  if (!asked.code_challenge || !request.body.code_verifier) return 'invalid_grant';
  return undefined;
}

function isClient(request) {
  if (told.login === 'client_secret_post') {
    return request.body.client_id === clientId && request.body.client_secret === clientSecret;
  }
  const [scheme, pair] = (request.headers.authorization ?? '').split(' ');
  const parts = Buffer.from(pair ?? '', 'base64').toString().split(':');
  const [id, secret] = parts.map((part) => decodeURIComponent(part.replaceAll('+', ' ')));
  return scheme === 'Basic' && parts.length === 2 && id === clientId && secret === clientSecret;
}

const encoded = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');

/** The same token, signed by nobody, by a stranger in our key's name, or with what everybody knows as a secret. */
function signedOtherwise(token, how) {
  const [header, payload, signature] = token.split('.');
  const named = JSON.parse(Buffer.from(header, 'base64url'));
  const jwk = service.issuer.keys.toJSON()[0];
  const text = (alg) => `${encoded({ ...named, alg })}.${payload}`;
  const hmac = (text, secret) => createHmac('sha256', secret).update(text).digest('base64url');
  const pem = () => createPublicKey({ key: jwk, format: 'jwk' }).export({ type: 'spki', format: 'pem' });
  switch (how) {
    case 'none':
      return `${text('none')}.`;
    case 'none-with-signature':
      return `${text('none')}.${signature}`;
    case 'hmac-pem':
      return `${text('HS256')}.${hmac(text('HS256'), pem())}`;
    case 'hmac-modulus':
      return `${text('HS256')}.${hmac(text('HS256'), Buffer.from(jwk.n, 'base64url'))}`;
    case 'stranger':
      return `${text('RS256')}.${sign('sha256', Buffer.from(text('RS256')), stranger).toString('base64url')}`;
    case 'stripped':
      return `${header}.${payload}.`;
    case 'other-payload':
      return `${header}.${encoded({ ...JSON.parse(Buffer.from(payload, 'base64url')), sub: 'root' })}.${signature}`;
    case 'garbage':
      return 'planted-token';
    default:
      throw new Error(`unknown signature ${how}`);
  }
}

function json(response, value, status = 200) {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value));
}

async function bodyOf(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

async function control(request, response) {
  if (request.method === 'GET') return json(response, counts);
  told = JSON.parse(await bodyOf(request));
  if (told.forgetConsents) refreshTokens.clear();
  if (told.consent) refreshTokens.add(told.consent);
  keptKeys = told.keepKeys ? (keptKeys ?? service.issuer.keys.toJSON()) : undefined;
  if (told.newKey) await startIssuer(told.newKey);
  return json(response, {});
}

function discovery(request, response) {
  counts.discovery += 1;
  service.openidConfigurationHandler(request, {
    json: (document) => {
      document.token_endpoint_auth_methods_supported = [told.login ?? 'client_secret_basic'];
      json(response, { ...document, ...told.discovery });
    },
  });
}

function keys(response) {
  counts.keys += 1;
  json(response, { keys: keptKeys ?? service.issuer.keys.toJSON() });
}

const server = createServer((request, response) => {
  const path = request.url.split('?')[0];
  if (path === '/control') return control(request, response);
  const isRefresh = path === '/token' && request.headers['content-type'] === 'application/json';
  if (path === '/token' && !isRefresh) counts.exchanges += 1;
  if (told.status) return response.writeHead(told.status).end('<html>planted</html>');
  if (path === '/.well-known/openid-configuration') return discovery(request, response);
  if (path === '/jwks') return keys(response);
  if (path === '/revoke') return revoke(request, response);
  if (isRefresh) return refresh(request, response);
  if (/^\/v3\/projects\/[^/]+:testIamPermissions$/.test(path)) return permissions(request, response);
  return service.requestHandler(request, response);
});
server.listen(0, '127.0.0.1', async () => {
  url = `http://127.0.0.1:${server.address().port}`;
  await startIssuer('RS256');
  console.log(url);
});
process.stdin.resume().on('end', () => process.exit());
