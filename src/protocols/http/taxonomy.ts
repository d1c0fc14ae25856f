/**
 * What policies may say about HTTP, as data: the documentation and the validation of policies are made from it.
 *
 * A request is one part: its method as the verb, its path (beneath the target's base URL) as the resource, on open egress
 * with the host. Query, headers' names and body are attributes.
 *
 * @packageDocumentation
 */
import type { ActionClass, AttributeSpec, Taxonomy, VerbSpec } from '../../core/action.ts'

const attributes: Readonly<Record<string, AttributeSpec>> = {
  method: { type: 'string', summary: 'The method, in upper case.' },
  scheme: { type: 'string', summary: '`http` or `https`.' },
  host: { type: 'string', summary: 'The host, in lower case, without port and final dot.' },
  port: { type: 'int', summary: 'The port, also where the URL names none.' },
  path: { type: 'string', summary: 'The path beneath the base URL of the target, as it is sent.' },
  query: {
    type: 'map',
    summary:
      'Parameters of the query, decoded. A parameter that is repeated is the list of its values. Null for what servers read in several ways (`;`, broken escapes), so that a condition on it denies.',
  },
  headers: { type: 'list(string)', summary: 'Names of the headers the caller set, in lower case, sorted.' },
  content_type: {
    type: 'string',
    summary: 'Media type of the body in lower case, without parameters; empty for none.',
  },
  body_kind: {
    type: 'string',
    summary: '`none`, `json`, `form`, `text`, or `opaque` for what cannot be read in exactly one way.',
  },
  body_bytes: { type: 'int', summary: 'Length of the body; -1 while it streams.' },
  body: {
    type: 'dyn',
    summary: 'The value of a JSON or form body; null otherwise, so that a condition on a field of it denies.',
    unreadableIf: { attribute: 'body_kind', is: ['text', 'opaque'] },
  },
}

function verb(name: string, ofClass: ActionClass, summary: string): VerbSpec {
  return { verb: name, class: ofClass, summary, attributes }
}

/** The HTTP protocol, for policies. */
export const taxonomy: Taxonomy = {
  protocol: 'http',
  prefix: 'http',
  verbs: [
    verb('http.get', 'read', 'Reads a resource.'),
    verb('http.head', 'read', 'Reads the headers of a resource.'),
    verb('http.options', 'read', 'Asks what a resource can do.'),
    verb('http.post', 'write', 'Hands a resource something to work on.'),
    verb('http.put', 'write', 'Puts a resource in place.'),
    verb('http.patch', 'write', 'Changes a resource.'),
    verb('http.delete', 'write', 'Removes a resource.'),
    {
      ...verb(
        'http.upgrade',
        'exec',
        'Turns the connection into a WebSocket (RFC 6455), besides the `http.get` it begins with; its messages are masked and recorded, not judged. Reached by its own name only.',
      ),
      byNameOnly: true,
    },
    verb('http.unknown', 'unknown', 'A method without an agreed meaning.'),
  ],
  actionAttributes: {},
  bundles: {},
}
