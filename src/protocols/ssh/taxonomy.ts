/**
 * What policies may say about SSH, as data: the documentation and the validation of policies are made from it.
 *
 * How a command line becomes parts:
 * - each command anywhere in it is a part with its whole argv: `ssh.exec`, or `ssh.code` when its words may say what is
 *   run (interpreters, `tar --to-command`, `find -delete` …);
 * - a program that runs another one (`sudo`, `xargs`, `sh -c` …) is `ssh.wrap` with its own words, and what it runs are
 *   parts of their own, as the account it runs them;
 * - redirections are `ssh.read` and `ssh.write` on the path, assignments `ssh.assign` on name and value;
 * - whatever is not understood is `ssh.unknown`, once, beside the parts that are.
 *
 * @packageDocumentation
 */
import type { ActionClass, AttributeSpec, Taxonomy, VerbSpec } from '../../core/action.ts'

const user: AttributeSpec = { type: 'string', summary: 'The account at the target it runs as.' }
const via: AttributeSpec = { type: 'list(string)', summary: 'Wrappers around it, outermost first: sudo, xargs, sh …' }
const argv: AttributeSpec = { type: 'list(string)', summary: 'Its words; a computed one as it is written.' }
const words: AttributeSpec = { type: 'int', summary: 'How many words it has.' }
const dynamic: AttributeSpec = { type: 'bool', summary: 'Whether only the remote shell knows some of its words.' }
const operation: AttributeSpec = { type: 'string', summary: 'The operation itself: stat, lstat, readlink, rmdir …' }
const mode: AttributeSpec = {
  type: 'int',
  summary: 'The mode it gives the file, with its type; -1 when it gives none.',
}
const command = { argv, words, dynamic, user, via }

const verbs: readonly VerbSpec[] = [
  verb('ssh.exec', 'exec', 'Runs a program.', command),
  verb('ssh.code', 'exec', 'Runs a program whose words, or files they name, may say what else is run.', command),
  verb(
    'ssh.wrap',
    'exec',
    'Runs another command, which is a part of its own; the resource is the wrapper’s own words.',
    command,
  ),
  verb(
    'ssh.builtin',
    'session',
    'A word of the shell that changes nothing but the state of this script: echo, cd, test …',
    {
      user,
      via,
    },
  ),
  verb('ssh.assign', 'session', 'Sets a variable; the resource is its name and its value.', {
    name: { type: 'string', summary: 'Name of the variable.' },
    user,
  }),
  verb('ssh.read', 'read', 'Reads a file by a redirection.', { user, via }),
  verb('ssh.write', 'write', 'Writes a file by a redirection.', { user, via }),
  verb('ssh.detach', 'exec', 'Leaves something running when the command has ended.', {}),
  verb('ssh.shell', 'exec', 'An interactive shell. What is typed in it is recorded, and not judged.', { user }),
  ...(
    [
      ['stat', 'read', 'Looks at a file’s attributes, or where a link leads.'],
      ['list', 'read', 'Lists a directory.'],
      ['read', 'read', 'Reads a file.'],
      ['write', 'write', 'Writes a file, or makes one.'],
      ['remove', 'write', 'Removes a file or an empty directory.'],
      ['rename', 'write', 'Renames; both names are parts.'],
      ['mkdir', 'write', 'Makes a directory.'],
      ['setstat', 'write', 'Changes mode, owner, times or length.'],
      ['link', 'write', 'Makes a link; where it leads is a part too.'],
    ] as const
  ).map(([name, actionClass, summary]) =>
    verb(`ssh.sftp.${name}`, actionClass, `SFTP: ${summary}`, { user, operation, mode }),
  ),
  verb('ssh.forward', 'admin', 'Opens a connection from the target to somewhere else; the resource is `host:port`.', {
    host: { type: 'string', summary: 'Where to.' },
    port: { type: 'int', summary: 'Port there.' },
  }),
  verb('ssh.unknown', 'unknown', 'Something in the command is not understood.', {
    reasons: { type: 'list(string)', summary: 'What was not understood, one sentence each.' },
  }),
]

/** Verbs and attributes of SSH. */
export const taxonomy: Taxonomy = {
  protocol: 'ssh',
  prefix: 'ssh',
  verbs,
  actionAttributes: {
    kind: { type: 'string', summary: 'exec, shell, sftp or forward.' },
    has_input: { type: 'bool', summary: 'Whether the caller sends input along.' },
  },
  bundles: {},
}

function verb(
  name: string,
  actionClass: ActionClass,
  summary: string,
  attributes: Readonly<Record<string, AttributeSpec>>,
): VerbSpec {
  return { verb: name, class: actionClass, summary, attributes }
}
