// A whole flow by openid-client: it prints where the person is to be sent, reads where he came back, and prints what it learned.
import { createInterface } from 'node:readline';
import * as client from 'openid-client';

const asked = JSON.parse(process.argv[2]);
// The issuer's name is nobody's here.
const here = (url, options) => fetch(String(url).replace(asked.issuer, asked.local), options);
const config = await client.discovery(
  new URL(asked.issuer), asked.client, undefined, client.ClientSecretBasic(asked.secret), { [client.customFetch]: here });
const [verifier, nonce, state] = [client.randomPKCECodeVerifier(), client.randomNonce(), client.randomState()];
const url = client.buildAuthorizationUrl(config, {
  redirect_uri: asked.redirect,
  scope: 'openid profile roles',
  code_challenge: await client.calculatePKCECodeChallenge(verifier),
  code_challenge_method: 'S256',
  nonce,
  state,
});
console.log(url.href);
let callback;
for await (const line of createInterface({ input: process.stdin })) {
  callback = line;
  break;
}
const tokens = await client.authorizationCodeGrant(config, new URL(callback), {
  pkceCodeVerifier: verifier, expectedNonce: nonce, expectedState: state, idTokenExpected: true,
});
const claims = tokens.claims();
const info = await client.fetchUserInfo(config, tokens.access_token, claims.sub);
const next = await client.refreshTokenGrant(config, tokens.refresh_token);
const before = await client.tokenIntrospection(config, next.access_token);
await client.tokenRevocation(config, next.refresh_token);
const after = await client.tokenIntrospection(config, next.access_token);
const out = client.buildEndSessionUrl(config, {
  post_logout_redirect_uri: asked.afterwards, id_token_hint: tokens.id_token, state: 'bye',
});
console.log(JSON.stringify({ claims, info, before, after, out: out.href }));
process.exit(0);
