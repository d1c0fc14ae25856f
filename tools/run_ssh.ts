import * as z from 'zod'
import { outputSchemaOf } from './answer.ts'
import { answerOutput } from './output.ts'
import type { RunTool } from './tool.ts'
import { inputSchemaOf, readArguments, reason, target } from './tool.ts'

/** Text that can be sent as it is: nothing UTF-8 cannot encode, and no NUL. */
const text = z.string().refine((value) => !value.includes('\0') && !/\p{Surrogate}/u.test(value), {
  message: 'must not contain NUL characters or unpaired surrogates',
})

const BYTES_MAX_DEFAULT = 256 * 1024

const schema = z.strictObject({
  target,
  argv: z
    .array(text.max(16_384))
    .min(1)
    .max(256)
    .optional()
    .describe('The program and its arguments, one word each, without any quoting: ["systemctl", "status", "web"].'),
  command: text
    .min(1)
    .max(16_384)
    .optional()
    .describe('A command line for bash, when you need pipes or redirections. Prefer `argv`: it needs no quoting.'),
  stdin: text
    .max(256 * 1024)
    .optional()
    .describe('What the command reads from standard input. Not for scripts.'),
  timeout_seconds: z.number().min(1).max(3600).optional().describe('After so long the command is ended.'),
  max_bytes: z
    .int()
    .min(1)
    .max(4 * 1024 * 1024)
    .optional()
    .describe('The most output you want. A policy may allow less.'),
  reason,
  new_request: z
    .uuid()
    .optional()
    .describe('A fresh UUID asks for a new approval although the same call was approved and run before.'),
})

/** Runs one command on a host under policy. */
export const runSsh: RunTool = {
  kind: 'run',
  protocol: 'ssh',
  name: 'run_ssh',
  title: 'Run a command on a host',
  description: [
    'Runs one command on an SSH target and returns its output and exit code.',
    'Give `argv` (preferred) or `command`, not both. Nobody can answer prompts, and nothing is left running.',
    'Every program the command would run is judged by policy, also those behind sudo, xargs, sh -c, pipes and $( ): it may be allowed, denied, or held until a person approves it.',
    'Write commands out: computed program names, functions, eval, sourced files and scripts on standard input are refused.',
    'Some values in the output may be masked; masked values are not the real ones.',
    'Status `ok` means it ran; `exit_code` says whether it succeeded.',
    'Status `denied` will not change by asking again: follow `hint` or tell your user which rule stands in the way.',
    'Status `pending_approval`: wait, then call `approval_status` with the ticket. Do not send the command changed.',
  ].join(' '),
  inputSchema: inputSchemaOf(schema),
  outputSchema: outputSchemaOf({
    target: { type: 'string' },
    exit_code: { type: 'integer', description: 'What the command ended with; 0 is success.' },
    signal: { type: 'string', description: 'The signal that ended the command, such as SIGKILL.' },
    stdout: { type: 'string' },
    stderr: { type: 'string' },
    truncated: { type: 'boolean', description: 'There was more output than you see.' },
    masked: {
      type: 'object',
      properties: {
        detectors: {
          type: 'object',
          additionalProperties: { type: 'integer' },
          description: 'Values replaced in the output, by kind.',
        },
      },
    },
    notices: { type: 'array', items: { type: 'string' } },
  }),
  annotations: { readOnlyHint: false, destructiveHint: true, idempotentHint: false, openWorldHint: true },

  read(args) {
    const { target, argv, command, stdin, timeout_seconds, max_bytes, reason, new_request } = readArguments(
      'run_ssh',
      schema.refine((value) => (value.argv === undefined) !== (value.command === undefined), {
        path: ['argv'],
        message: 'give either argv or command',
      }),
      args,
    )
    const payload = {
      kind: 'exec',
      ...(argv !== undefined && { argv }),
      ...(command !== undefined && { command }),
      ...(stdin !== undefined && { stdin }),
      max_bytes: max_bytes ?? BYTES_MAX_DEFAULT,
      ...(timeout_seconds !== undefined && { timeout_ms: Math.round(timeout_seconds * 1000) }),
    }
    return {
      target,
      payload,
      ...(reason !== undefined && { reason }),
      ...(new_request !== undefined && { newRequest: new_request }),
    }
  },

  answer: answerOutput,
}
