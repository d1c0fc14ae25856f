/** A log that could not be written, because its disk was full, ended the gateway with the next line. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'
import { freePorts } from '../services/free-port.ts'

const CLI = fileURLToPath(new URL('../../dist/src/cli.js', import.meta.url))

it('goes on when nothing can be written to its log, and ends as it should', async () => {
  const dir = await mkdtemp(path.join(tmpdir(), 'sallyport-log-'))
  const [mcp, admin] = await freePorts(2)
  await mkdir(path.join(dir, 'policies'))
  await writeFile(path.join(dir, 'sallyport.yaml'), `listen: {mcp: "127.0.0.1:${mcp}", admin: "127.0.0.1:${admin}"}\n`)
  const gateway = spawn('bash', ['-c', 'exec "$@" 2>/dev/full', 'bash', process.execPath, CLI, 'serve'], { cwd: dir })
  try {
    const health = (): Promise<number> =>
      fetch(`http://127.0.0.1:${admin}/healthz`).then(
        ({ status }) => status,
        () => 0,
      )
    await expect.poll(health).toBe(200)
    await writeFile(path.join(dir, 'policies', 'bad.yaml'), 'rules: [')
    // The policy files are looked at a moment after they changed, and what is wrong with them is logged.
    for (let time = 0; time < 5; time++) {
      gateway.kill('SIGHUP')
      expect(await health()).toBe(200)
    }
    gateway.kill('SIGTERM')
    if (gateway.exitCode === null) await once(gateway, 'exit')
    expect(gateway.exitCode).toBe(0)
  } finally {
    gateway.kill('SIGKILL')
    await rm(dir, { recursive: true, force: true })
  }
})
