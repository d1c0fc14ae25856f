/** A real nginx on loopback, in a directory of its own, as an ordinary web server or as a plain reverse proxy. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { freePort } from './free-port.ts'

/** A running nginx. */
export interface Nginx {
  readonly url: string
  readonly port: number
  /** The process that serves. */
  readonly pid: number
  close(): Promise<void>
}

/**
 * Starts one.
 *
 * @param files what it serves, by name.
 * @param proxied where everything else goes, over connections that are kept, as `http://127.0.0.1:port`.
 */
export async function startNginx(files: Readonly<Record<string, string>>, proxied?: string): Promise<Nginx> {
  const dir = await mkdtemp(path.join(tmpdir(), 'sallyport-nginx-'))
  const port = await freePort()
  await mkdir(path.join(dir, 'www'))
  for (const [name, text] of Object.entries(files)) await writeFile(path.join(dir, 'www', name), text)
  const location =
    proxied === undefined
      ? `root ${dir}/www; gzip on; gzip_types application/json; gzip_min_length 1;`
      : `location / { proxy_pass http://upstream; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; }`
  const upstreams = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
  await writeFile(
    path.join(dir, 'nginx.conf'),
    `daemon off; worker_processes 1; pid ${dir}/pid; error_log ${dir}/error.log;
events { worker_connections 256; }
http {
  access_log off; default_type text/plain; types { application/json json; text/html html; image/png png; }
  ${upstreams.map((name) => `${name}_temp_path ${dir}/${name};`).join(' ')}
  ${proxied === undefined ? '' : `upstream upstream { server ${new URL(proxied).host}; keepalive 64; keepalive_requests 1000000; }`}
  server { listen 127.0.0.1:${port}; keepalive_requests 1000000; ${location} }
}
`,
  )
  // As root its worker would otherwise be another user, who cannot read the directory.
  const words = ['-p', dir, '-e', `${dir}/error.log`, '-c', `${dir}/nginx.conf`]
  const child = spawn('/usr/sbin/nginx', [...words, ...(process.getuid?.() === 0 ? ['-g', 'user root;'] : [])], {
    stdio: 'ignore',
  })
  await listening(port)
  return {
    url: `http://127.0.0.1:${port}`,
    port,
    pid: await workerOf(child.pid ?? 0),
    async close() {
      child.kill('SIGTERM')
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
      await rm(dir, { recursive: true, force: true })
    },
  }
}

async function workerOf(pid: number): Promise<number> {
  const children = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8').catch(() => '')
  return Number(children.trim().split(' ')[0]) || pid
}

async function listening(port: number): Promise<void> {
  for (let tries = 0; tries < 2_000; tries++) {
    const socket = connect(port, '127.0.0.1')
    const isOpen = await once(socket, 'connect').then(
      () => true,
      () => false,
    )
    socket.destroy()
    if (isOpen) return
    await setTimeout(50)
  }
  throw new Error('nginx did not start.')
}
