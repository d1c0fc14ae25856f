/** A real OpenSSH server on an unprivileged port of 127.0.0.1, with its own keys and configuration, for one suite. */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir, userInfo } from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { freePort } from './free-port.ts'

export interface TestSshd {
  readonly port: number
  /** The account that may log in: the one that runs the tests. */
  readonly user: string
  /** A private key that may log in, as a file. */
  readonly keyFile: string
  /** Fingerprint of the host key. */
  readonly fingerprint: string
  /** A directory for the suite's own files. */
  readonly dir: string
  /** What the server said so far. */
  log(): string
  close(): Promise<void>
}

/** Starts a server. @param extra more lines of `sshd_config`. */
export async function openSshd(extra = ''): Promise<TestSshd> {
  const dir = await mkdtemp(path.join(tmpdir(), 'sallyport-sshd-'))
  await chmod(dir, 0o700)
  const keygen = (name: string): void => {
    const made = spawnSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', name, '-f', path.join(dir, name)])
    if (made.status !== 0) throw new Error(`ssh-keygen: ${String(made.stderr)}`)
  }
  keygen('host')
  keygen('login')
  await writeFile(path.join(dir, 'authorized_keys'), await readFile(path.join(dir, 'login.pub')), { mode: 0o600 })
  // Bash reads ~/.bashrc when a server starts it: what the developer's own does costs time, and may change what is seen.
  await mkdir(path.join(dir, 'home'))
  const port = await freePort()
  const config = `
Port ${port}
ListenAddress 127.0.0.1
HostKey ${dir}/host
PidFile none
UsePAM no
StrictModes no
PermitRootLogin yes
PasswordAuthentication no
KbdInteractiveAuthentication no
AuthorizedKeysFile ${dir}/authorized_keys
AllowTcpForwarding yes
MaxStartups 100
MaxSessions 20
AcceptEnv LANG LC_*
Subsystem sftp internal-sftp
SetEnv HOME=${dir}/home
LogLevel VERBOSE
${extra}
`
  await writeFile(path.join(dir, 'sshd_config'), config)
  // Where a server that runs as root insists on keeping nothing (sshd(8), privilege separation).
  if (process.getuid?.() === 0) mkdirSync('/run/sshd', { recursive: true, mode: 0o755 })
  const child = spawn('/usr/sbin/sshd', ['-D', '-e', '-f', path.join(dir, 'sshd_config')], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  let log = ''
  const lines = createInterface(child.stderr)
  await new Promise<void>((resolve, reject) => {
    lines.on('line', (line) => {
      log += `${line}\n`
      if (line.startsWith('Server listening')) resolve()
    })
    child.once('error', reject)
    child.once('exit', (code) => reject(new Error(`sshd ended with ${code}: ${log}`)))
  })
  const shown = spawnSync('ssh-keygen', ['-l', '-f', path.join(dir, 'host.pub')], { encoding: 'utf8' }).stdout
  return {
    port,
    user: userInfo().username,
    keyFile: path.join(dir, 'login'),
    fingerprint: shown.split(' ')[1] ?? '',
    dir,
    log: () => log,
    async close() {
      if (child.exitCode === null && child.signalCode === null) {
        const ended = once(child, 'exit')
        child.kill('SIGTERM')
        await ended
      }
      await rm(dir, { recursive: true, force: true })
    },
  }
}
