/**
 * Sessions of browsers: what a person gets for showing a token once, so that the token is not sent again and again by a
 * program that anybody's page may direct.
 *
 * A session is worth what its token is worth at that moment, and no longer than an hour. The store keeps a hash of it, so
 * every instance knows it, and who can read the store has none.
 *
 * @packageDocumentation
 */
import { createHash, randomBytes } from 'node:crypto'
import type { Principal } from '../core/principal.ts'
import type { Store } from '../store/store.ts'
import type { Identity } from './identity.ts'

/** The open sessions of browsers. */
export interface BrowserSessions {
  /** Opens one for a token that was just shown. Returns its secret, which is kept nowhere. */
  open(principal: Principal): Promise<string>
  /** Returns whom a session stands for now, or `undefined` once it or its token has ended. */
  find(secret: string): Promise<Principal | undefined>
  /** Ends a session, if there is one. */
  end(secret: string): Promise<void>
}

/** How long a session lasts at most, in milliseconds. */
export const BROWSER_SESSION_MS = 60 * 60_000

/** Sessions of one token at once; the oldest gives way. */
const PER_TOKEN_MAX = 8

const BROWSERS = 'browsers'
const SECRET = /^[A-Za-z0-9_-]{43}$/

interface BrowserSession {
  readonly credentialId: string
  /** Milliseconds since the epoch. */
  readonly endsAt: number
}

/** Opens the sessions over a store. */
export function createBrowserSessions(options: {
  readonly store: Store
  readonly identity: Pick<Identity, 'current'>
  /** Milliseconds since the epoch. */
  readonly now: () => number
}): BrowserSessions {
  const { store, identity, now } = options

  return {
    async open({ credentialId }) {
      // Fail closed: what stands for no token could never be revoked.
      if (credentialId === undefined) throw new TypeError('a browser session needs a token to stand for')
      await makeRoom(credentialId)
      const secret = randomBytes(32).toString('base64url')
      const value: BrowserSession = { credentialId, endsAt: now() + BROWSER_SESSION_MS }
      await store.commit([{ kind: 'put', collection: BROWSERS, id: idOf(secret), expect: 0, value }])
      return secret
    },

    async find(secret) {
      if (!SECRET.test(secret)) return undefined
      const read = await store.get<BrowserSession>(BROWSERS, idOf(secret))
      if (read === undefined || read.value.endsAt <= now()) return undefined
      return identity.current(read.value.credentialId)
    },

    async end(secret) {
      if (!SECRET.test(secret)) return
      const read = await store.get<BrowserSession>(BROWSERS, idOf(secret))
      if (read === undefined) return
      await store.commit([{ kind: 'remove', collection: BROWSERS, id: read.id, expect: read.version }])
    },
  }

  /** Forgets sessions that are over, and the oldest ones of a token that has too many. */
  async function makeRoom(credentialId: string): Promise<void> {
    const all = await store.list<BrowserSession>(BROWSERS)
    const own = all
      .filter(({ value }) => value.credentialId === credentialId && value.endsAt > now())
      .toSorted((a, b) => b.value.endsAt - a.value.endsAt)
    const gone = [...all.filter(({ value }) => value.endsAt <= now()), ...own.slice(PER_TOKEN_MAX - 1)]
    for (const { id, version } of gone) {
      await store.commit([{ kind: 'remove', collection: BROWSERS, id, expect: version }])
    }
  }
}

function idOf(secret: string): string {
  return createHash('sha256').update(secret).digest('hex')
}
