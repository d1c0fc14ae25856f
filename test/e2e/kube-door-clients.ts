/** Every kubectl that was found, untouched, doing what people do with it through the door. */
import { spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import path from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { kubectls } from '../services/kubectls.ts'
import type { KubectlOptions, KubeWorld } from './kube-door-world.ts'

const MOTD = 'Mind the doors.\n'

/** The pod `till` in the namespace `shop` runs, and the agent may do all of this there. */
export function describeClients(world: () => KubeWorld, secret: string): void {
  describe.each(kubectls().map((command, index) => ({ command, name: `client-${index}` })))(
    'a kubectl: $command',
    ({ command, name }) => {
      const run = async (args: readonly string[], options: KubectlOptions = {}): Promise<string> => {
        const { code, stdout, stderr } = await world().kubectl(['-n', 'shop', ...args], { command, ...options })
        expect({ args, code, stderr }).toEqual({ args, code: 0, stderr: code === 0 ? stderr : '' })
        return stdout
      }
      const manifest = (replicas: number): KubectlOptions => ({ input: deployment(name, replicas) })
      const uploaded: Buffer[] = []

      beforeAll(() => {
        const { node } = world().kube
        const etc = path.join(world().dir, name, 'etc')
        mkdirSync(etc, { recursive: true })
        writeFileSync(path.join(etc, 'motd'), MOTD)
        node.programs.set('test', async () => 1)
        node.programs.set('tar', async ({ argv, stdin, out }) => {
          if (argv[1] === 'cf') {
            out(spawnSync('tar', ['cf', '-', '-C', path.dirname(etc), 'etc/motd']).stdout)
            return 0
          }
          for await (const piece of stdin) uploaded.push(piece)
          return 0
        })
        node.ports.set(80, (received) => Buffer.from(`you said ${received.toString()}`))
      })

      it('reads, describes, and follows logs, without any value of a Secret', async () => {
        expect(await run(['get', 'pods'])).toMatch(/^NAME +READY[^\n]*\n(?:.*\n)*?till +1\/1 +Running/u)
        const stop = new AbortController()
        const said = [
          await run(['get', 'secret', 'db', '-o', 'yaml']),
          await run(['describe', 'secret', 'db']),
          await run(['describe', 'pod', 'till']),
          await run(['get', '--raw', '/cluster/api/v1/namespaces/shop/secrets/db']),
          (
            await world().kubectl(['get', 'secret', 'db', '-n', 'shop', '-w', '-o', 'yaml'], {
              command,
              signal: stop.signal,
              onOutput: (text) => text.includes('kind: Secret') && stop.abort(),
            })
          ).stdout,
        ]
        for (const text of said) {
          expect(text).toMatch(/password/iu)
          expect(text).not.toMatch(new RegExp(`${secret}|${Buffer.from(secret).toString('base64')}`, 'u'))
        }
        const end = new AbortController()
        const { stdout } = await world().kubectl(['logs', '-f', 'till', '-n', 'shop'], {
          command,
          signal: end.signal,
          onOutput: (text) => text.includes('second line\n') && end.abort(),
        })
        expect(stdout).toBe('hello from till\nsecond line\n')
      })

      it('applies, compares, waits, rolls out, and deletes', async () => {
        expect(await run(['apply', '-f', '-'], manifest(1))).toContain(`deployment.apps/${name} created`)
        const diff = await world().kubectl(['diff', '-f', '-'], { command, ...manifest(2) })
        expect(diff).toMatchObject({
          code: 1,
          stdout: expect.stringMatching(/-  replicas: 1\n\+  replicas: 2/u) as string,
        })
        expect(await run(['apply', '-f', '-'], manifest(2))).toContain('configured')
        await run(['wait', '--for=condition=available', `deployment/${name}`, '--timeout=150s'])
        await run(['rollout', 'restart', `deployment/${name}`])
        expect(await run(['rollout', 'status', `deployment/${name}`, '--timeout=150s'])).toContain('successfully')
        await run(['create', '-f', '-'], { input: configMap(name) })
        expect(await run(['delete', 'configmap', name])).toContain('deleted')
        const drain = ['drain', 'node-1', '--dry-run=client', '--force', '--pod-selector=app=till']
        const drained = await world().kubectl(drain, { command })
        expect(drained.stdout + drained.stderr).toMatch(
          /pod\/till evicted \(dry run\)|evicting pod shop\/till \(dry run\)/u,
        )
        expect(drained.code).toBe(0)
      })

      it('runs commands, copies both ways, and forwards a port', async () => {
        expect(await run(['exec', 'till', '--', 'echo', 'a b'])).toBe('a b\n')
        await run(['cp', 'shop/till:/etc/motd', `${name}/copied`])
        expect(readFileSync(path.join(world().dir, name, 'copied'), 'utf8')).toBe(MOTD)
        await run(['cp', `${name}/copied`, 'shop/till:/tmp/there'])
        expect(Buffer.concat(uploaded).toString()).toContain(MOTD)
        expect(await forwarded(world(), ':80', new AbortController(), command)).toBe('you said knock-knock')
      })
    },
  )
}

function deployment(name: string, replicas: number): string {
  const labels = { app: name }
  const template = { metadata: { labels }, spec: { containers: [{ name: 'web', image: 'nginx:1' }] } }
  return JSON.stringify({
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name, namespace: 'shop' },
    spec: { replicas, selector: { matchLabels: labels }, template },
  })
}

function configMap(name: string): string {
  const metadata = { name, namespace: 'shop' }
  return JSON.stringify({ apiVersion: 'v1', kind: 'ConfigMap', metadata, data: { a: 'b' } })
}

/** Sends `knock-knock` through a forwarded port, and returns what came back. */
export async function forwarded(
  world: KubeWorld,
  ports: string,
  stop: AbortController,
  command = 'kubectl',
): Promise<string> {
  let answer: Promise<string> | undefined
  await world.kubectl(['port-forward', 'pod/till', ports, '-n', 'shop'], {
    command,
    signal: stop.signal,
    onOutput(text) {
      const [, port] = /127\.0\.0\.1:(\d+) ->/u.exec(text) ?? []
      if (port === undefined || answer !== undefined) return
      answer = new Promise<string>((resolve) => {
        let seen = ''
        const socket = connect(Number(port), '127.0.0.1')
        socket.setEncoding('utf8')
        socket.on('data', (piece: string) => (seen += piece))
        socket.on('error', () => undefined)
        socket.once('close', () => resolve(seen))
        // The node answers when it has heard the end.
        socket.end('knock-knock')
      }).finally(() => stop.abort())
    },
  })
  return (await answer) ?? ''
}
