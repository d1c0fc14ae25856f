/**
 * What the SSH door costs: `scp` of 200 MB with `record: digest` and `record: full`, and a connection with `true`, each
 * beside the same directly at the same sshd with the same key exchange; rounds interleaved in one run.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { openSshWorld, type SshWorld } from '../test/e2e/ssh-world.ts'
import { percentile } from './measure.ts'

const ROUNDS = Number(process.env['BENCH_ROUNDS'] ?? 5)
const MEGABYTES = Number(process.env['BENCH_MB'] ?? 200)

const POLICY = `
targets: [box]
rules:
  - {id: files, effect: allow, principals: [group:agents], actions: ["ssh.sftp.*"], resources: ["**"], limits: {timeout: 10m}}
  - {id: tools, effect: allow, principals: [group:agents], actions: [ssh.builtin], resources: ["**"]}
`

/** What both ways agree on, so that only the gateway is measured. */
const SAME = ['-o', 'KexAlgorithms=curve25519-sha256', '-o', 'Ciphers=aes128-gcm@openssh.com']

type Lane = 'direct' | 'digest' | 'full'

await main()

async function main(): Promise<void> {
  const worlds = {
    digest: await openSshWorld(POLICY, '    record: digest'),
    full: await openSshWorld(POLICY, '    record: full'),
  }
  try {
    const keys = {
      digest: (await worlds.digest.caller('loop', ['agents'])).keyFile,
      full: (await worlds.full.caller('loop', ['agents'])).keyFile,
    }
    const file = path.join(worlds.digest.dir, 'large')
    await writeFile(file, Buffer.alloc(MEGABYTES * 1024 * 1024, 'a line of a log that somebody copies\n'))
    const lanes = ['direct', 'digest', 'full'] as const
    const copied = await compare(lanes, async (lane) => {
      const { sshd } = worlds[lane === 'direct' ? 'digest' : lane]
      const to = path.join(sshd.dir, `copy-${lane}`)
      if (lane === 'direct') await direct(worlds.digest, 'scp', ['-P'], [file, `127.0.0.1:${to}`])
      else await governed(worlds[lane], 'scp', keys[lane], [...SAME, file, `127.0.0.1:${to}`])
      await rm(to)
    })
    report(
      `scp of ${MEGABYTES} MB up`,
      copied,
      lanes,
      (ratio) => `throughput ${(1 / ratio).toFixed(2)} of direct`,
      'at least 0.50',
    )
    const connected = await compare(['direct', 'digest'], async (lane) => {
      if (lane === 'direct') await direct(worlds.digest, 'ssh', ['-p'], ['127.0.0.1', 'true'])
      else await governed(worlds.digest, 'ssh', keys.digest, [...SAME, '127.0.0.1', 'true'])
    })
    report(
      'ssh host true',
      connected,
      ['direct', 'digest'],
      (ratio) => `time ${ratio.toFixed(2)} × direct`,
      'at most 1.30',
    )
  } finally {
    await Promise.all([worlds.digest.close(), worlds.full.close()])
  }
}

async function compare(lanes: readonly Lane[], run: (lane: Lane) => Promise<void>): Promise<Map<Lane, number[]>> {
  const seconds = new Map<Lane, number[]>(lanes.map((lane) => [lane, []]))
  for (let index = -1; index < ROUNDS; index++) {
    for (const lane of lanes) {
      const started = performance.now()
      await run(lane)
      // The first round only warms up.
      if (index >= 0) seconds.get(lane)?.push((performance.now() - started) / 1000)
    }
  }
  return seconds
}

function report(
  what: string,
  seconds: ReadonlyMap<Lane, readonly number[]>,
  lanes: readonly Lane[],
  say: (ratio: number) => string,
  goal: string,
): void {
  console.log(`${what}: ${ROUNDS} rounds, medians`)
  const base = seconds.get('direct') ?? []
  for (const lane of lanes) {
    const own = seconds.get(lane) ?? []
    // Rounds that ran one after the other met the same noise.
    const ratio = percentile(
      own.map((value, index) => value / (base[index] ?? value)),
      0.5,
    )
    const compared = lane === 'direct' ? '' : `  ${say(ratio)} (goal: ${goal})`
    console.log(`  ${lane.padEnd(8)}${percentile(own, 0.5).toFixed(3).padStart(8)} s${compared}`)
  }
}

async function direct(
  { sshd }: SshWorld,
  program: 'ssh' | 'scp',
  port: readonly string[],
  words: readonly string[],
): Promise<void> {
  const options = [
    'StrictHostKeyChecking=no',
    'UserKnownHostsFile=/dev/null',
    'LogLevel=ERROR',
    'IdentitiesOnly=yes',
    'IdentityAgent=none',
  ]
  const common = [
    '-F',
    'none',
    '-i',
    sshd.keyFile,
    ...options.flatMap((option) => ['-o', option]),
    '-o',
    `User=${sshd.user}`,
  ]
  const child = spawn(program, [...port, String(sshd.port), ...common, ...SAME, ...words], {
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  await once(child, 'close')
  if (child.exitCode !== 0) throw new Error(`${program} ended with ${child.exitCode}`)
}

async function governed(world: SshWorld, program: 'ssh' | 'scp', key: string, words: readonly string[]): Promise<void> {
  const { code, stderr } = await world.client(program, key, words)
  if (code !== 0) throw new Error(`${program} ended with ${code}: ${stderr}`)
}
