/**
 * What policies may say about Kubernetes, as data: the documentation and the validation of policies are made from it.
 *
 * Each exchange with the API server is one part. Its verb is what the server would do, never the HTTP method; its resource
 * is `{kind: group/plural}` with namespace and name, where the core group is written `core`. A subresource whose meaning is
 * the verb (`log`, `exec`, `eviction` …) leaves the object itself as the resource; any other stands third in the kind,
 * as in `core/pods/status`, and no pattern with two pieces meets it.
 *
 * @packageDocumentation
 */
import type { ActionClass, AttributeSpec, Taxonomy, VerbSpec } from '../../core/action.ts'
import type { KubeVerb } from './request.ts'

type Attributes = Readonly<Record<string, AttributeSpec>>

const common: Attributes = {
  method: { type: 'string', summary: 'The HTTP method, in upper case. It says nothing of what is done.' },
  path: { type: 'string', summary: 'The path as it is sent.' },
  group: { type: 'string', summary: 'API group; empty for the core group.' },
  version: { type: 'string', summary: 'API version, such as `v1`.' },
  plural: { type: 'string', summary: 'Plural of the resource, such as `pods`.' },
  subresource: { type: 'string', summary: 'Subresource, such as `status`; empty for none.' },
  namespace: { type: 'string', summary: 'Namespace; empty for all of them and for what has none.' },
  name: { type: 'string', summary: 'Name of the object; empty when no single one is meant.' },
  label_selector: { type: 'string', summary: 'Label selector; empty for none. No identity: labels change.' },
  field_selector: { type: 'string', summary: 'Field selector; empty for none.' },
  query: { type: 'map', summary: 'Parameters of the query as they are sent.' },
}

const written: Attributes = {
  ...common,
  dry_run: { type: 'bool', summary: 'Whether the server only pretends. Its webhooks still run.' },
  body: { type: 'dyn', summary: 'The object, patch or options in the body; null without one.' },
  content_type: { type: 'string', summary: 'Media type of the body; which kind of patch it is.' },
  images: {
    type: 'list(string)',
    summary: 'Images of containers in the body, sorted. Left out for a patch by operations, so that conditions deny.',
  },
  host_access: {
    type: 'list(string)',
    summary:
      'What in the body reaches past a pod: privileged, hostNetwork, hostPID, hostIPC, hostProcess, hostPath, ' +
      'capabilities, hostPort. Left out for a patch by operations, so that conditions deny.',
  },
  service_accounts: {
    type: 'list(string)',
    summary: 'Service accounts pods in the body run as. Left out for a patch by operations.',
  },
}

const pod: Attributes = {
  ...common,
  container: { type: 'string', summary: 'Container; empty for the default one.' },
}

const streaming: Attributes = {
  ...pod,
  command: { type: 'list(string)', summary: 'Words of the command, as they are run.' },
  stdin: { type: 'bool', summary: 'Whether the caller sends input.' },
  tty: { type: 'bool', summary: 'Whether it has a terminal.' },
}

const verbs: readonly VerbSpec[] = [
  verb('get', 'read', 'Reads one object.', common),
  verb('list', 'read', 'Reads objects.', common),
  verb('watch', 'read', 'Reads changes of objects as they happen.', common),
  verb('logs', 'read', 'Reads what a container wrote.', pod),
  verb('discover', 'session', 'Asks which kinds and versions the server has: discovery, OpenAPI, version, health.', {
    path: common['path'] ?? { type: 'string', summary: '' },
  }),
  verb('review', 'session', 'Asks what the account of the gateway may do.', written),
  verb('create', 'write', 'Creates an object.', written),
  verb(
    'update',
    'write',
    'Replaces an object; of some kinds (services, roles, leases …) it makes the one that is not there.',
    written,
  ),
  verb('patch', 'write', 'Changes an object.', written),
  verb('apply', 'write', 'Server-side apply: creates an object, or changes the fields named.', written),
  verb('scale', 'write', 'Changes how many replicas there are.', {
    ...written,
    replicas: { type: 'int', summary: 'How many; -1 when the body does not say.' },
  }),
  verb('delete', 'write', 'Deletes one object.', written),
  verb('deletecollection', 'admin', 'Deletes every object that meets a selector, or all.', written),
  verb('evict', 'write', 'Deletes a pod unless a disruption budget forbids it.', written),
  verb('exec', 'exec', 'Runs a command in a container.', streaming),
  verb('attach', 'exec', 'Attaches to what runs in a container.', streaming),
  verb('debug', 'exec', 'Adds a container to a running pod.', written),
  verb('portforward', 'exec', 'Opens connections to ports of a pod.', {
    ...pod,
    ports: {
      type: 'list(string)',
      summary:
        'The port that is connected to. A forwarding is let begin where some port could be; each connection then is a call.',
    },
  }),
  verb('proxy', 'exec', 'Sends any HTTP request to a pod, service or node; a node runs commands that way.', {
    ...common,
    proxy_path: { type: 'string', summary: 'Path behind the proxy.' },
  }),
  verb('token', 'admin', 'Makes a token of a service account. It is masked in the answer.', written),
  verb('bind', 'admin', 'Assigns a pod to a node.', written),
  verb('approve', 'admin', 'Approves or denies a certificate request.', written),
  verb('unknown', 'unknown', 'A path, method or subresource without a known meaning.', {
    ...written,
    problem: { type: 'string', summary: 'What is not understood.' },
  }),
]

/** The Kubernetes protocol, for policies. */
export const taxonomy: Taxonomy = {
  protocol: 'kubernetes',
  prefix: 'k8s',
  fieldsAnywhere: true,
  verbs,
  actionAttributes: {
    door: { type: 'string', summary: '`tool` or `api`.' },
    command: {
      type: 'string',
      summary: 'Of the tool, what was asked for: describe, rollout-restart, drain …; else empty.',
    },
  },
  bundles: {
    'k8s.discovery': {
      summary: 'What clients ask before anything else: kinds, versions, OpenAPI, and what they themselves may do.',
      grants: [
        { verb: 'k8s.discover', resources: ['-'] },
        { verb: 'k8s.review', resources: ['**'] },
      ],
    },
  },
}

function verb(name: KubeVerb, actionClass: ActionClass, summary: string, attributes: Attributes): VerbSpec {
  return { verb: `k8s.${name}`, class: actionClass, summary, attributes }
}
