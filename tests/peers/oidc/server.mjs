// A real OAuth server (panva's oidc-provider) for the tests of client authentication.
//
// Reads one JSON object from standard input: clients, and for TLS key, certificate and the CA of client certificates.
// Prints one line, its issuer URL, when it listens; ends when standard input ends.

import { createServer as plain } from 'node:http';
import { createServer as secure } from 'node:https';

import Provider, { errors } from 'oidc-provider';

const input = process.stdin;
input.setEncoding('utf8');
const options = JSON.parse(await new Promise((resolve) => input.once('data', resolve)));
input.on('end', () => process.exit(0));

const server = options.tls
  ? secure({ ...options.tls, requestCert: true, rejectUnauthorized: false })
  : plain();

server.listen(0, 'localhost', () => {
  const issuer = `${options.tls ? 'https' : 'http'}://localhost:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: options.clients.map((client) => ({
      grant_types: ['client_credentials'], redirect_uris: [], response_types: [], ...client,
    })),
    clientAuthMethods: ['client_secret_basic', 'client_secret_post', 'private_key_jwt', 'tls_client_auth'],
    scopes: ['read', 'write'],
    // Entra ID finds the registered certificate by its thumbprint; here it has to be the one that is registered.
    assertJwtClientAuthClaimsAndHeader: (ctx, claims, header) => {
      const wanted = options.thumbprint;
      if (wanted && header['x5t#S256'] !== wanted) {
        throw new errors.InvalidClientAuth('x5t#S256 is not the registered certificate');
      }
    },
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      mTLS: {
        enabled: true,
        tlsClientAuth: true,
        getCertificate: (ctx) => {
          const certificate = ctx.socket.getPeerX509Certificate?.();
          return certificate?.toString();
        },
        certificateAuthorized: (ctx) => ctx.socket.authorized,
        certificateSubjectMatches: (ctx, property, expected) => {
          const names = ctx.socket.getPeerX509Certificate().subjectAltName ?? '';
          return names.split(', ').includes(`DNS:${expected}`);
        },
      },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => undefined,
        getResourceServerInfo: (ctx, resource) => {
          if (!options.resources.includes(resource)) throw new errors.InvalidTarget();
          return { scope: 'read write', audience: resource, accessTokenTTL: 1800, accessTokenFormat: 'jwt' };
        },
      },
    },
  });
  server.on('request', provider.callback());
  process.stdout.write(`${issuer}\n`);
});
