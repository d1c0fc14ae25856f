#!/usr/bin/env node
import { Argument, Command, CommanderError, Option } from 'commander'
import { EXIT } from './cli/exit-code.ts'
import { fail } from './cli/fail.ts'
import { refuseOldNode } from './cli/node-version.ts'
import { VERSION } from './version.ts'

refuseOldNode()

/**
 * The command line. Commands are declared here and loaded when they run, so that `--help` and a mistyped word answer at
 * once; each one's work stands in a file of its own below `cli/`.
 */
const program = new Command('sallyport')
  .description('The policy enforcement point between AI agents and the systems they drive.')
  .version(VERSION)
  .showHelpAfterError('(--help lists what there is)')
  .configureOutput({ outputError: (text, write) => write(`sallyport: ${text.replace(/^error: /u, '')}`) })
  .addHelpText(
    'after',
    `
Exit codes: 0 done · 1 failed · 2 wrong command line · 3 wrong configuration or policy · 4 gateway not reachable or
state directory in use · 5 token not accepted · 6 checked and found wrong.
Environment: SALLYPORT_CONFIG, SALLYPORT_STORE, SALLYPORT_ADMIN_URL, SALLYPORT_TOKEN, NO_COLOR, SALLYPORT_DEBUG.`,
  )
  .exitOverride()

program
  .command('serve')
  .description('run the gateway')
  .addOption(configOption())
  .addOption(storeOption())
  .action(async (options) => (await import('./cli/serve.ts')).serve(options))

program
  .command('mcp')
  .description('bridge an MCP client that speaks stdio to a running gateway')
  .option('--url <url>', 'MCP endpoint of the gateway (or SALLYPORT_URL)')
  .action(async (options) => (await import('./cli/mcp.ts')).mcp(options))

program
  .command('init')
  .description('write a configuration and a first policy here, and make the first operator')
  .option('--operator <name>', 'who you are; stands in recordings and approvals')
  .option('--save', 'keep the token in your login file instead of printing it')
  .addOption(configOption())
  .action(async (options) => (await import('./cli/init.ts')).init(options))

program
  .command('operator <name>')
  .description('make the first operator, with the gateway stopped')
  .option('--begin-anew', 'although there are tokens, because all operators or approvers are gone')
  .option('--expires <time>', 'how long the token lasts', '30d')
  .option('--json', 'for machines')
  .addOption(configOption())
  .addOption(storeOption())
  .action(async (name, options) => (await import('./cli/operator.ts')).operator(name, options))

remote(program.command('login'))
  .description('check a token from standard input and keep it for these commands')
  .action(async (options) => (await import('./cli/login.ts')).login(options))

const token = program.command('token').description('service-account tokens')
remote(token.command('create <principal>'))
  .description('make a token and print it once')
  .addOption(
    new Option('--kind <kind>', 'what kind of caller').choices(['agent', 'person', 'service']).default('agent'),
  )
  .requiredOption('--owner <person>', 'the person who answers for it')
  .option('--group <names...>', 'groups policies may name')
  .option('--role <roles...>', 'caller, approver, operator, auditor (default: caller)')
  .option('--acts-for <person>', 'the person an agent acts for')
  .option('--ssh-key <file>', 'a public key (.pub) that stands for it at the SSH door')
  .option('--expires <time>', 'how long it lasts', '30d')
  .action(async (principal, options) => (await import('./cli/token.ts')).tokenCreate(principal, options))
remote(token.command('list'))
  .description('list tokens, without the tokens')
  .action(async (options) => (await import('./cli/token.ts')).tokenList(options))
remote(token.command('revoke <id>'))
  .description('end a token, its sessions and their calls')
  .action(async (id, options) => (await import('./cli/token.ts')).tokenRevoke(id, options))
remote(token.command('confirm <id>'))
  .description('agree, as an approver, to the token of an approver or operator that somebody else made')
  .action(async (id, options) => (await import('./cli/token.ts')).tokenConfirm(id, options))

const approvals = program.command('approvals').description('calls that wait for a person')
remote(approvals.command('list'))
  .description('list tickets you may see')
  .option('--all', 'ended ones too')
  .action(async (options) => (await import('./cli/approvals.ts')).approvalsList(options))
remote(approvals.command('show <ticket>'))
  .description('show one ticket: the exact request, who asks, why')
  .action(async (ticket, options) => (await import('./cli/approvals.ts')).approvalsShow(ticket, options))
remote(approvals.command('approve <ticket>'))
  .description('agree to exactly this call, once, and to what the ticket says its approval covers')
  .option('--reason <text>', 'your words, for the recording')
  .option('--digest <digest>', 'refuse unless the ticket still has this digest; agrees to this call only')
  .option('--covers <id>', 'with --digest: agree to what the ticket said it covers, too')
  .option('--this-call-only', 'agree to this call and to nothing else it could cover')
  .action(async (ticket, options) => (await import('./cli/approvals.ts')).approvalsVote(ticket, true, options))
remote(approvals.command('deny <ticket>'))
  .description('refuse it')
  .option('--reason <text>', 'your words, for the agent and the recording')
  .option('--digest <digest>', 'refuse unless the ticket still has this digest')
  .action(async (ticket, options) => (await import('./cli/approvals.ts')).approvalsVote(ticket, false, options))
remote(approvals.command('watch'))
  .description('print tickets as they come')
  .action(async (options) => (await import('./cli/approvals.ts')).approvalsWatch(options))
remote(approvals.command('cancel <ticket>'))
  .description('withdraw a request of yours, or as an operator anybody’s, that did not run yet')
  .action(async (ticket, options) => (await import('./cli/approvals.ts')).approvalsCancel(ticket, options))
remote(approvals.command('resolve <ticket>'))
  .description('say what became of a call whose outcome is unknown')
  .addOption(new Option('--outcome <outcome>', 'what you found').choices(['done', 'failed']).makeOptionMandatory())
  .requiredOption('--reason <text>', 'how you found out')
  .action(async (ticket, options) => (await import('./cli/approvals.ts')).approvalsResolve(ticket, options))

program
  .command('doctor [target]')
  .description('look at a target through the gateway’s own credential: what undercuts its policy and masks')
  .option('--emit-sql', 'print the SQL of a least-privilege role instead')
  .option(
    '--role <name>',
    'the role that SQL is for (default: the one in use, or a new one where grants cannot bind it)',
  )
  .addOption(configOption())
  .option('--json', 'for machines')
  .action(async (target, options) => (await import('./cli/doctor.ts')).doctor(target, options))

const policy = program.command('policy').description('the rules')
policy
  .command('check')
  .description('read the policy files and say every mistake with its place')
  .option('--against <target>', 'also hold them against a live target: what is missing there, and what undercuts masks')
  .addOption(configOption())
  .option('--json', 'for machines')
  .action(async (options) => (await import('./cli/policy-check.ts')).policyCheck(options))
policy
  .command('explain')
  .description('decide calls against the live catalog, executing nothing')
  .addOption(configOption())
  .option('--jsonl [file]', 'one call per line from a file or standard input; one decision per line')
  .option('--principal <id>', 'who calls')
  .option('--kind <kind>', 'what kind of caller', 'agent')
  .option('--group <names...>', 'groups of the caller')
  .option('--target <name>', 'where')
  .option('--sql <text>', 'the statement')
  .option('--method <method>', 'the HTTP method, GET unless it is given')
  .option('--path <path>', 'the HTTP path beneath the base URL of the target, with its query')
  .option('--url <url>', 'the whole URL, for open egress')
  .option('--body <text>', 'the HTTP body: JSON, or any text')
  .option('--resolve <host=address...>', 'judge these addresses in place of those DNS would give')
  .option('--tool <name>', 'any tool, with --arguments')
  .option('--arguments <json>', 'arguments of the tool, as JSON')
  .option('--json', 'for machines')
  .action(async (options) => (await import('./cli/policy-explain.ts')).policyExplain(options))
policy
  .command('test [files...]')
  .description('run policy fixtures (policies/*.test.yaml)')
  .option('--strict', 'fail too when no fixture exercises some arm of a rule')
  .addOption(configOption())
  .option('--json', 'for machines')
  .action(async (files, options) => (await import('./cli/policy-test.ts')).policyTest(files, options))
remote(policy.command('status'))
  .description('which policy a running gateway decides by')
  .action(async (options) => (await import('./cli/policy-status.ts')).policyStatus(options))
remote(policy.command('reload'))
  .description('make a running gateway read its policy files again')
  .action(async (options) => (await import('./cli/policy-status.ts')).policyReload(options))

const recordings = program.command('recordings').description('what happened')
remote(recordings.command('list'))
  .description('list recordings')
  .action(async (options) => (await import('./cli/recordings.ts')).recordingsList(options))
remote(recordings.command('show <session>'))
  .description('show one as a transcript; that you read it is recorded too')
  .option('--results <bytes>', 'how much of each result to show', '0')
  .action(async (session, options) => (await import('./cli/recordings.ts')).recordingsShow(session, options))
remote(recordings.command('play <session>'))
  .description('play one in the time it took; nothing in it can do anything to your terminal')
  .option('--call <id>', 'only this call')
  .option('--speed <factor>', 'how many times faster', '1')
  .option('--idle <seconds>', 'wait no longer than this where nothing happened', '2')
  .action(async (session, options) => (await import('./cli/recordings-play.ts')).recordingsPlay(session, options))
remote(recordings.command('export <session>'))
  .description('write one in a form other players read')
  .option('--call <id>', 'only this call')
  .option('--format <name>', 'asciicast (version 2)', 'asciicast')
  .action(async (session, options) => (await import('./cli/recordings-play.ts')).recordingsExport(session, options))
recordings
  .command('verify [directory]')
  .description('check every hash, seal and checkpoint, without a gateway')
  .option('--key <file>', 'public key to trust, instead of those beside the recordings')
  .addOption(configOption())
  .option('--json', 'for machines')
  .action(async (directory, options) =>
    (await import('./cli/recordings-verify.ts')).recordingsVerify(directory, options),
  )

const KINDS = ['principal', 'target'] as const
remote(program.command('freeze'))
  .description('stop every call of a principal or on a target, on every instance, those under way too')
  .addArgument(new Argument('<kind>', 'what to stop').choices(KINDS))
  .argument('<name>', 'its id or name')
  .requiredOption('--reason <text>', 'why; callers are told')
  .option('--for <time>', 'until when, such as 1h; without it until somebody lifts it')
  .action(async (kind, name, options) => (await import('./cli/freeze.ts')).freeze(kind, name, options))
remote(program.command('unfreeze'))
  .description('lift a freeze')
  .addArgument(new Argument('<kind>', 'what was stopped').choices(KINDS))
  .argument('<name>', 'its id or name')
  .action(async (kind, name, options) => (await import('./cli/freeze.ts')).unfreeze(kind, name, options))
remote(program.command('freezes'))
  .description('list what is frozen')
  .action(async (options) => (await import('./cli/freeze.ts')).freezes(options))

const sessions = program.command('sessions').description('who is connected')
remote(sessions.command('list'))
  .description('list open sessions and their calls')
  .action(async (options) => (await import('./cli/sessions.ts')).sessionsList(options))
remote(sessions.command('kill <session>'))
  .description('end a session and its calls')
  .action(async (session, options) => (await import('./cli/sessions.ts')).sessionsKill(session, options))

program
  .command('kubeconfig <target>')
  .description('print a kubeconfig that leads through the gateway')
  .option('--url <url>', 'the admin door of the gateway')
  .option('--token-file <file>', 'a file with the token it is to use; your own token without it')
  .option('-n, --namespace <namespace>', 'the namespace it begins in', 'default')
  .action(async (target, options) => (await import('./cli/kubeconfig.ts')).kubeconfig(target, options))

program
  .command('demo')
  .description('see it work: a private PostgreSQL, the gateway, and an agent that tries things')
  .option('--keep', 'keep everything running and print configuration for your own client')
  .action(async (options) => (await import('./cli/demo/demo.ts')).demo(options))

await run(process.argv)

async function run(argv: readonly string[]): Promise<void> {
  // At a file size limit a write is to fail like on a full disk, and not to kill the process (setrlimit(2)).
  process.on('SIGXFSZ', () => undefined)
  // A reader that went away (`| head`) is no fault of ours.
  process.stdout.on('error', () => process.exit())
  try {
    await program.parseAsync(argv)
  } catch (error) {
    if (!(error instanceof CommanderError)) fail(error)
    else if (error.exitCode !== 0) process.exitCode = EXIT.usage
  }
}

/** The command line names only a place: its password and key come from configuration, environment, file or command. */
function storeOption(): Option {
  return new Option('--store <url>', 'PostgreSQL that several instances share, without a password').env(
    'SALLYPORT_STORE',
  )
}

function configOption(): Option {
  return new Option('-c, --config <file>', 'configuration file').env('SALLYPORT_CONFIG').default('sallyport.yaml')
}

function remote(command: Command): Command {
  return command
    .option('--url <url>', 'admin door of the gateway (or SALLYPORT_ADMIN_URL)')
    .option('--json', 'for machines')
}
