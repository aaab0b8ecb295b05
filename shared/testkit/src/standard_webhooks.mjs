// Proves a webhook with the reference library: node standard_webhooks.mjs MODULE, and {secret, headers, body} on standard
// input. Prints `true` where the library takes it, else what it says.

import { pathToFileURL } from 'node:url';

const library = await import(pathToFileURL(process.argv[2]));
const { Webhook } = library.default ?? library;

let text = '';
for await (const chunk of process.stdin) text += chunk;
const { secret, headers, body } = JSON.parse(text);
try {
  new Webhook(secret).verify(body, headers);
  console.log('true');
} catch (error) {
  console.log(error.message);
}
