/**
 * Who is calling: service-account tokens, each owned by a person, expiring, and hashed at rest.
 *
 * There is no anonymous door: whoever cannot show a usable token gets the same answer, whatever is wrong with it.
 *
 * @packageDocumentation
 */
import { randomBytes } from 'node:crypto'
import { SallyportError } from '../core/errors.ts'
import type { Principal } from '../core/principal.ts'
import type { Store, Versioned, Write } from '../store/store.ts'
import { endDualControl, guardToken, whyNotConfirm } from './dual-control.ts'
import { alarm } from './expiry.ts'
import { checkNewToken, type NewToken, sshKeyBlob, TOKEN_LIFE_MAX_MS } from './new-token.ts'
import { nobodysVerifier, prove, saltOf, SCRAM_ITERATIONS, verifierOf } from './scram.ts'
import { factsOf, idOf, isToken, newToken, principalOf, stateOf, type StoredToken, type TokenFacts } from './token.ts'

/** What identity is built from. */
export interface IdentityOptions {
  readonly store: Store
  /** Milliseconds since the epoch. */
  readonly now: () => number
  /**
   * Told of each administrative act before it takes effect; when it rejects, the act does not happen. Left out where the
   * door itself writes acts down.
   */
  readonly onEvent?: (event: IdentityEvent) => void | Promise<void>
  /** How long a token may live at most. */
  readonly tokenLifeMaxMs?: number
  /** Key of the salts for SCRAM. Without it tokens cannot be proved that way. */
  readonly saltKey?: Uint8Array
}

/** An administrative act. Holds no token and no hash. */
export interface IdentityEvent {
  readonly kind: 'token.create' | 'token.revoke' | 'token.confirm' | 'token.bootstrap' | 'dual_control.end'
  readonly at: number
  /** Absent when the owner of the host acted, who needs no token. */
  readonly by?: Principal
  readonly token?: TokenFacts
  /** `refused` tells of an attempt that the rules do not allow. */
  readonly outcome: 'accepted' | 'refused'
}

/** A new token. `token` is shown this once and kept nowhere. */
export interface CreatedToken {
  readonly token: string
  readonly facts: TokenFacts
}

/** A proof by SCRAM-SHA-256 under way. */
export interface ScramProof {
  readonly salt: Uint8Array
  readonly iterations: number
  /** Returns who it is and our own proof when the client's fits one of the principal's usable tokens. */
  check(
    authMessage: string,
    proof: Uint8Array,
  ): Promise<{ readonly principal: Principal; readonly signature: Uint8Array } | undefined>
}

/** The callers of a gateway. */
export interface Identity {
  /** @throws SallyportError `ERR_UNAUTHENTICATED`, with one message for all reasons. */
  authenticate(bearer: string): Promise<Principal>
  /** Begins a proof by SCRAM-SHA-256 that the caller has a token of this principal, whether or not there is one. */
  scram(principal: string): Promise<ScramProof>
  /**
   * Finds whom an SSH public key stands for. The caller has proved nothing by it yet: whoever asks checks the signature.
   *
   * @param key in the form it has on the wire.
   * @throws SallyportError `ERR_UNAUTHENTICATED`, with one message for all reasons.
   */
  authenticateKey(key: Uint8Array): Promise<Principal>
  /**
   * Makes a token. For operators.
   *
   * @throws SallyportError `ERR_FORBIDDEN`, `ERR_INVALID_INPUT`, `ERR_STORE_FAILED`.
   */
  create(by: Principal, token: NewToken): Promise<CreatedToken>
  list(): Promise<readonly TokenFacts[]>
  /** Ends a token at once, and with it what it started. For operators, and for its owner. */
  revoke(by: Principal, id: string): Promise<TokenFacts>
  /** Agrees to the token of an approver, or of another operator, that somebody else made (C13). For approvers. */
  confirm(by: Principal, id: string): Promise<TokenFacts>
  /** Makes the first operator, if no token was ever made; else resolves `undefined`. For whoever owns the host. */
  bootstrap(owner: string, expiresInMs?: number): Promise<CreatedToken | undefined>
  /**
   * Lets operators make approvers alone again, and makes an operator. The way back when all approvers or operators are
   * gone; for whoever owns the host, with the gateway stopped.
   */
  beginAnew(owner: string, expiresInMs?: number): Promise<CreatedToken>
  /** Returns the principal a token stands for now, or `undefined` when it can no longer be used. */
  current(credentialId: string | undefined): Promise<Principal | undefined>
  /** Calls `listener` with the id of each token that was revoked, or ran out, until the returned function is called. */
  onRevoked(listener: (credentialId: string) => void): () => void
  close(): void
}

const TOKENS = 'tokens'
const NO_SALT_KEY = randomBytes(32)
const PRINCIPALS = 'principals'

/** What all tokens of one principal have in common. */
type KnownPrincipal = Pick<StoredToken, 'kind' | 'owner' | 'actsFor'>

/** Opens the identities of a gateway. */
export function createIdentity(options: IdentityOptions): Identity {
  const { store, now, onEvent = () => undefined, tokenLifeMaxMs = TOKEN_LIFE_MAX_MS, saltKey } = options
  const listeners = new Set<(credentialId: string) => void>()
  let lookedAt = now()
  const next = alarm(now, () => void tellExpired().catch(() => next.set(now() + 1_000)))
  const leave = store.subscribe(TOKENS, (change) => {
    if (change.kind === 'remove') tell(change.id)
    else void (change.kind === 'put' ? tellIfRevoked(change.id) : tellUnusable()).catch(() => undefined)
    void setAlarm().catch(() => next.set(now() + 1_000))
  })
  void setAlarm().catch(() => next.set(now() + 1_000))

  const identity: Identity = {
    async authenticate(bearer) {
      const id = idOf(bearer)
      if (id === undefined) throw unauthenticated()
      const stored = (await store.get<StoredToken>(TOKENS, id))?.value
      if (!isToken(bearer, stored) || stateOf(stored, now()) !== 'active') throw unauthenticated()
      return principalOf(id, stored)
    },

    async scram(name) {
      const mockKey = saltKey ?? NO_SALT_KEY
      return {
        salt: saltOf(mockKey, name),
        iterations: SCRAM_ITERATIONS,
        async check(authMessage, proof) {
          const tokens = await store.list<StoredToken>(TOKENS)
          const usable = tokens.filter(({ value }) => value.principal === name && stateOf(value, now()) === 'active')
          // A name without a token takes the time of one with one.
          if (usable.length === 0) prove(nobodysVerifier(), authMessage, proof)
          for (const { id, value } of usable) {
            const signature = value.scram && prove(value.scram, authMessage, proof)
            if (signature !== undefined) return { principal: principalOf(id, value), signature }
          }
          return undefined
        },
      }
    },

    async authenticateKey(key) {
      const found = await tokenOfKey(Buffer.from(key).toString('base64'))
      if (found === undefined) throw unauthenticated()
      return principalOf(found.id, found.value)
    },

    async create(by, wanted) {
      const token = checkNewToken(wanted, tokenLifeMaxMs)
      if (!isOperator(by)) {
        await onEvent({ kind: 'token.create', at: now(), by, outcome: 'refused' })
        throw forbidden('Only a person with the role operator can make tokens.')
      }
      return make(token, by)
    },

    async list() {
      const tokens = await store.list<StoredToken>(TOKENS)
      return tokens
        .map(({ id, value }) => factsOf(id, value, now()))
        .sort((a, b) => (a.createdAt < b.createdAt ? -1 : 1))
    },

    async revoke(by, id) {
      const read = await tokenOf(id, by)
      if (read.value.revokedAt !== undefined) return factsOf(id, read.value, now())
      const mayRevoke = isOperator(by) || (by.kind === 'person' && by.owner === read.value.owner)
      await announce(
        'token.revoke',
        by,
        read,
        mayRevoke ? undefined : 'Only an operator or its owner can revoke a token.',
      )
      return change(id, (token) => ({ ...token, revokedAt: token.revokedAt ?? now() }))
    },

    async confirm(by, id) {
      const read = await tokenOf(id, by)
      await announce('token.confirm', by, read, whyNotConfirm(by, read.value))
      return change(id, (token) => {
        const state = stateOf(token, now())
        if (state === 'active') return token
        if (state !== 'unconfirmed') throw new SallyportError('ERR_INVALID_INPUT', `Token ${id} is ${state}.`)
        return { ...token, confirmedBy: by.id }
      })
    },

    async bootstrap(owner, expiresInMs = tokenLifeMaxMs) {
      if ((await store.list(TOKENS)).length > 0) return undefined
      const mark: Write = { kind: 'put', collection: 'identity', id: 'bootstrap', expect: 0, value: { at: now() } }
      if ((await store.get('identity', 'bootstrap')) !== undefined) return undefined
      return make(operator(owner, expiresInMs), undefined, [mark])
    },

    async beginAnew(owner, expiresInMs = tokenLifeMaxMs) {
      await onEvent({ kind: 'dual_control.end', at: now(), outcome: 'accepted' })
      return make(operator(owner, expiresInMs), undefined, await endDualControl(store))
    },

    async current(credentialId) {
      if (credentialId === undefined) return undefined
      const stored = (await store.get<StoredToken>(TOKENS, credentialId))?.value
      if (stored === undefined || stateOf(stored, now()) !== 'active') return undefined
      return principalOf(credentialId, stored)
    },

    onRevoked(listener) {
      listeners.add(listener)
      return () => void listeners.delete(listener)
    },

    close() {
      leave()
      next.end()
      listeners.clear()
    },
  }
  return identity

  function operator(owner: string, expiresInMs: number): NewToken {
    const token: NewToken = { principal: owner, kind: 'person', owner, groups: [], roles: ['operator'], expiresInMs }
    return checkNewToken(token, tokenLifeMaxMs)
  }

  async function make(
    wanted: NewToken,
    by: Principal | undefined,
    together: readonly Write[] = [],
  ): Promise<CreatedToken> {
    const { id, token, hash } = newToken()
    const { expiresInMs, sshKey: keyLine, ...rest } = wanted
    const sshKey = keyLine === undefined ? undefined : sshKeyBlob(keyLine)
    const { id: maker, owner: makerOwner } = by ?? { id: 'host', owner: 'host' }
    for (;;) {
      const tokens = await store.list<StoredToken>(TOKENS)
      if (sshKey !== undefined && (await tokenOfKey(sshKey)) !== undefined) {
        // One key must not stand for two callers: nobody could say which of them came.
        throw new SallyportError(
          'ERR_INVALID_INPUT',
          'The token cannot be made: this SSH key belongs to another token.',
        )
      }
      const { owner, roles } = wanted
      // The owner of the host asks nobody.
      const guard = by === undefined ? undefined : await guardToken(store, { owner, roles, makerOwner }, tokens, now())
      const stored: StoredToken = {
        ...rest,
        hash,
        ...(saltKey !== undefined && { scram: await verifierOf(token, saltOf(saltKey, wanted.principal)) }),
        createdAt: now(),
        createdBy: { id: maker, owner: makerOwner },
        expiresAt: now() + expiresInMs,
        ...(guard?.needsConfirmation === true && { needsConfirmation: true }),
        ...(sshKey !== undefined && { sshKey }),
      }
      const known = await principalWrite(wanted)
      const facts = factsOf(id, stored, now())
      const kind = by === undefined ? 'token.bootstrap' : 'token.create'
      await onEvent({ kind, at: now(), ...(by !== undefined && { by }), token: facts, outcome: 'accepted' })
      const writes: readonly Write[] = [
        { kind: 'put', collection: TOKENS, id, expect: 0, value: stored },
        known,
        ...(guard?.writes ?? []),
        ...together,
      ]
      if (await store.commit(writes)) return { token, facts }
      // Only what was read may have changed and is read again; what the caller brought along is theirs to read again.
      if (together.length > 0) throw new SallyportError('ERR_STORE_FAILED', 'Somebody else did the same just now.')
    }
  }

  /**
   * Holds a principal to what it was when it was first named. Two tokens of one principal with different owners would
   * make one person's approval, and one person's stored results, somebody else's.
   */
  async function principalWrite({ principal, kind, owner, actsFor }: NewToken): Promise<Write> {
    const known: KnownPrincipal = { kind, owner, ...(actsFor !== undefined && { actsFor }) }
    const read = await store.get<KnownPrincipal>(PRINCIPALS, principal)
    if (read === undefined) return { kind: 'put', collection: PRINCIPALS, id: principal, expect: 0, value: known }
    if (read.value.kind !== kind || read.value.owner !== owner || read.value.actsFor !== actsFor) {
      const { kind: was, owner: whose, actsFor: whom } = read.value
      throw new SallyportError(
        'ERR_INVALID_INPUT',
        `The token cannot be made: ${principal} is already known as ${was} of ${whose}` +
          `${whom === undefined ? '' : ` acting for ${whom}`}. Use another principal id.`,
      )
    }
    return { kind: 'check', collection: PRINCIPALS, id: principal, expect: read.version }
  }

  async function tokenOfKey(sshKey: string): Promise<Versioned<StoredToken> | undefined> {
    const tokens = await store.list<StoredToken>(TOKENS)
    return tokens.find(({ value }) => value.sshKey === sshKey && stateOf(value, now()) === 'active')
  }

  async function tokenOf(id: string, by: Principal): Promise<Versioned<StoredToken>> {
    const read = await store.get<StoredToken>(TOKENS, id)
    const maySee = isOperator(by) || by.roles.includes('approver') || by.owner === read?.value.owner
    if (read === undefined || !maySee) throw new SallyportError('ERR_INVALID_INPUT', 'There is no such token.')
    return read
  }

  /** Tells of an act before it is done, or of the attempt when it is not allowed. */
  async function announce(
    kind: IdentityEvent['kind'],
    by: Principal,
    { id, value }: Versioned<StoredToken>,
    whyNot: string | undefined,
  ): Promise<void> {
    const outcome = whyNot === undefined ? 'accepted' : 'refused'
    await onEvent({ kind, at: now(), by, token: factsOf(id, value, now()), outcome })
    if (whyNot !== undefined) throw forbidden(whyNot)
  }

  async function change(id: string, next: (token: StoredToken) => StoredToken): Promise<TokenFacts> {
    for (;;) {
      const read = await store.get<StoredToken>(TOKENS, id)
      if (read === undefined) throw new SallyportError('ERR_INVALID_INPUT', 'There is no such token.')
      const value = next(read.value)
      const write: Write = { kind: 'put', collection: TOKENS, id, expect: read.version, value }
      if (value === read.value || (await store.commit([write]))) return factsOf(id, value, now())
    }
  }

  function tell(id: string): void {
    for (const listener of listeners) listener(id)
  }

  async function tellIfRevoked(id: string): Promise<void> {
    const read = await store.get<StoredToken>(TOKENS, id)
    if (read === undefined || read.value.revokedAt !== undefined) tell(id)
  }

  /** After changes may have been missed: names all that cannot be used, which costs those who know nothing of them nothing. */
  async function tellUnusable(): Promise<void> {
    for (const { id, value } of await store.list<StoredToken>(TOKENS)) if (stateOf(value, now()) !== 'active') tell(id)
  }

  async function tellExpired(): Promise<void> {
    const since = lookedAt
    lookedAt = now()
    for (const { id, value } of await store.list<StoredToken>(TOKENS)) {
      if (value.expiresAt > since && value.expiresAt <= lookedAt) tell(id)
    }
    await setAlarm()
  }

  async function setAlarm(): Promise<void> {
    const tokens = await store.list<StoredToken>(TOKENS)
    const ahead = tokens.map(({ value }) => value.expiresAt).filter((at) => at > lookedAt)
    next.set(ahead.length === 0 ? undefined : ahead.reduce((first, at) => Math.min(first, at)))
  }
}

function isOperator(by: Principal): boolean {
  return by.kind === 'person' && by.roles.includes('operator')
}

function unauthenticated(): SallyportError {
  return new SallyportError(
    'ERR_UNAUTHENTICATED',
    'A valid token is needed. Ask an operator for one: sallyport token create.',
  )
}

function forbidden(message: string): SallyportError {
  return new SallyportError('ERR_FORBIDDEN', message)
}
