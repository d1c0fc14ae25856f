// Fills the gaps in package-lock.json that `npm install` leaves when its registry does not carry the builds of every platform:
// `npm ci` refuses a lock that lacks an optional dependency, even one that this machine would never install. Versions are
// exact in the packages that ask for them; system and processor stand in the names. Run it after every change of the lock.
import { readFileSync, writeFileSync } from 'node:fs'

const file = new URL('../../package-lock.json', import.meta.url)
const lock = JSON.parse(readFileSync(file, 'utf8'))
let added = 0
for (const { optionalDependencies = {}, dev } of Object.values(lock.packages)) {
  for (const [name, version] of Object.entries(optionalDependencies)) {
    const key = `node_modules/${name}`
    if (lock.packages[key] !== undefined || !/^\d/u.test(version)) continue
    const platform = platformOf(name)
    if (platform === undefined) continue
    lock.packages[key] = { version, ...platform, ...(dev === true && { dev }), optional: true }
    added++
  }
}
lock.packages = Object.fromEntries(Object.entries(lock.packages).sort(([a], [b]) => (a < b ? -1 : 1)))
writeFileSync(file, `${JSON.stringify(lock, null, 2)}\n`)
console.log(`complete-lock: ${added} entries added`)

/** @param {string} name such as `@scope/binding-linux-arm64-musl` */
function platformOf(name) {
  const os = /(android|darwin|freebsd|linux|openharmony|win32)/u.exec(name)?.[1]
  const cpu = /(arm64|arm|ia32|x64|ppc64|riscv64|s390x)/u.exec(
    name.slice(name.indexOf(os ?? '') + (os ?? '').length),
  )?.[1]
  if (os === undefined || cpu === undefined) return undefined
  const libc = os !== 'linux' ? undefined : name.includes('musl') ? 'musl' : name.endsWith('gnu') ? 'glibc' : undefined
  return { cpu: [cpu], ...(libc !== undefined && { libc: [libc] }), os: [os] }
}
