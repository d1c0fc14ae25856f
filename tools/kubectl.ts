import * as z from 'zod'
import { SallyportError } from '../src/core/errors.ts'
import { outputSchemaOf } from './answer.ts'
import { answerKube } from './objects.ts'
import type { RunTool } from './tool.ts'
import { inputSchemaOf, readArguments, reason, target } from './tool.ts'

const name = z.string().min(1).max(256)
const selector = z.string().min(1).max(2048)
const values = z.record(
  z.string().max(320),
  z
    .string()
    .max(64 * 1024)
    .nullable(),
)

const schema = z.strictObject({
  target,
  verb: z
    .enum([
      'get',
      'list',
      'describe',
      'events',
      'logs',
      'top',
      'create',
      'apply',
      'patch',
      'label',
      'annotate',
      'scale',
      'rollout_status',
      'rollout_restart',
      'rollout_undo',
      'delete',
      'cordon',
      'uncordon',
      'drain',
      'exec',
      'can_i',
    ])
    .optional()
    .describe('What to do. Give either `verb` with the arguments below, or `argv`.'),
  resource: name.optional().describe('One kind: pods, deployments, or plural.group; or kind/name.'),
  name: name.optional().describe('Name of the object. Without one, get lists.'),
  namespace: name.optional().describe('Namespace; the one of the target by default.'),
  all_namespaces: z.boolean().optional().describe('Look in all namespaces.'),
  selector: selector.optional().describe('Label selector, such as app=web.'),
  field_selector: selector.optional().describe('Field selector, such as status.phase=Running.'),
  container: name.optional().describe('Container of the pod, for logs and exec.'),
  tail_lines: z.int().min(0).max(100_000).optional().describe('Last lines of a log; 500 by default.'),
  since_seconds: z.int().min(1).optional().describe('Only what a log has since then.'),
  previous: z.boolean().optional().describe('The log of the container before its last restart.'),
  timestamps: z.boolean().optional().describe('Put the time before each line of a log.'),
  limit: z.int().min(1).max(5000).optional().describe('Most objects of a list; 500 by default.'),
  manifest: z
    .union([z.string().max(1024 * 1024), z.record(z.string(), z.unknown())])
    .optional()
    .describe('One object, as JSON or as YAML text, for create and apply (server-side apply).'),
  patch: z.unknown().optional().describe('The patch: JSON, or YAML text.'),
  patch_type: z.enum(['strategic', 'merge', 'json']).optional().describe('Kind of patch; merge by default.'),
  labels: values.optional().describe('For label: what to set; null takes one away.'),
  annotations: values.optional().describe('For annotate: what to set; null takes one away.'),
  replicas: z.int().min(0).max(100_000).optional().describe('For scale.'),
  revision: z.int().min(1).optional().describe('For rollout_undo; the one before by default.'),
  command: z
    .array(z.string().max(64 * 1024))
    .min(1)
    .max(256)
    .optional()
    .describe('For exec: the program and its arguments as separate words. No shell reads them.'),
  ask_verb: name.optional().describe('For can_i: the verb of the API you ask about, such as delete.'),
  subresource: name.optional().describe('For get and patch: status or scale.'),
  dry_run: z.boolean().optional().describe('Let the server only pretend.'),
  force: z.boolean().optional().describe('For apply: take over fields that others manage.'),
  propagation: z.enum(['Background', 'Foreground', 'Orphan']).optional().describe('For delete: what belongs to it.'),
  grace_seconds: z.int().min(0).optional().describe('For delete.'),
  ignore_daemonsets: z.boolean().optional().describe('For drain: leave pods of daemon sets.'),
  delete_emptydir_data: z.boolean().optional().describe('For drain: evict pods with local data, which is lost.'),
  output: z.enum(['json', 'yaml', 'table', 'name']).optional().describe('How the result is written.'),
  argv: z
    .array(z.string().max(64 * 1024))
    .min(1)
    .max(256)
    .optional()
    .describe('Instead of `verb`: the words of a kubectl command line, such as ["get", "pods", "-n", "web"].'),
  reason,
  new_request: z
    .uuid()
    .optional()
    .describe('A fresh UUID asks for a new approval although the same call was approved and run before.'),
})

/** The output schema: a result as text, and of a command its code. */
const SCHEMA = outputSchemaOf({
  target: { type: 'string' },
  result: {
    type: 'string',
    description: 'Objects in the form that was asked for, or the text of a log, after masking.',
  },
  exit_code: { type: 'integer', description: 'Of exec: how the command ended.' },
  stderr: { type: 'string', description: 'Of exec: what the command wrote to standard error.' },
  truncated: { type: 'boolean', description: 'There was more.' },
  masked: {
    type: 'object',
    properties: {
      detectors: {
        type: 'object',
        additionalProperties: { type: 'integer' },
        description: 'Values replaced, by kind.',
      },
    },
  },
  notices: { type: 'array', items: { type: 'string' } },
})

/** Reads or changes a Kubernetes cluster under policy. */
export const kubectl: RunTool = {
  kind: 'run',
  protocol: 'kubernetes',
  name: 'kubectl',
  title: 'Work on a Kubernetes cluster',
  description: [
    'Reads and changes objects of a Kubernetes cluster, reads logs, and runs commands in containers.',
    'No kubectl runs: the call is understood, judged by policy and sent to the API; the gateway adds the credential.',
    'Give `verb` and its arguments, or `argv` as you would write kubectl.',
    'One call acts on one kind: several are several calls.',
    'Values of Secrets, and of variables whose names look secret, are always masked as ***; never write *** back.',
    'Status `denied` will not change by asking again: follow `hint` or tell your user which rule stands in the way.',
    'Status `pending_approval`: wait, then call `approval_status` with the ticket. Do not send the call changed.',
  ].join(' '),
  inputSchema: inputSchemaOf(schema),
  outputSchema: SCHEMA,
  annotations: { readOnlyHint: false, destructiveHint: true, idempotentHint: false, openWorldHint: true },

  read(args) {
    const { target, reason, new_request: newRequest, argv, verb, ...fields } = readArguments('kubectl', schema, args)
    const given = Object.entries(fields).filter(([, value]) => value !== undefined)
    if (argv !== undefined && (verb !== undefined || given.length > 0)) throw invalid('give either argv or verb')
    if (argv === undefined && verb === undefined) throw invalid('verb: give it, or argv')
    return {
      target,
      payload: argv === undefined ? { kind: 'tool', verb, ...Object.fromEntries(given) } : { kind: 'argv', argv },
      ...(reason !== undefined && { reason }),
      ...(newRequest !== undefined && { newRequest }),
    }
  },

  answer: answerKube,
}

function invalid(what: string): SallyportError {
  return new SallyportError('ERR_INVALID_INPUT', `Invalid arguments for kubectl. ${what}.`)
}
