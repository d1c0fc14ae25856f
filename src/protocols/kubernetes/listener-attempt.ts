import type { IncomingMessage } from 'node:http'
import type { Call, Session } from '../../core/call.ts'
import type { Chunk } from '../../core/chunk.ts'
import { SallyportError } from '../../core/errors.ts'
import { checkFraming, tokenIn } from '../../core/http-head.ts'
import type { Principal } from '../../core/principal.ts'
import type { Target } from '../../core/target.ts'
import type { Sessions } from '../../gateway/sessions.ts'
import { placeOf } from '../shared/place.ts'

/** What a request needs of the gateway to become a call. */
export interface AttemptDeps {
  /** @throws SallyportError `ERR_UNAUTHENTICATED` */
  authenticate(token: string): Promise<Principal>
  readonly sessions: Pick<Sessions, 'join'>
  /** The spine: `govern`, bound to the rooms. The only way from here to a backend. */
  run(call: Call): AsyncIterable<Chunk>
  target(name: string): Target | undefined
}

/** A request whose sender and target are known. */
export interface Known {
  readonly principal: Principal
  readonly target: Target
  /** Path and query as the API server would be sent them. */
  readonly rest: string
}

/** Recordings and metrics name it so. */
export const KUBERNETES_TOOL = 'kubernetes.api'

/** Most characters of a caller's own name for its piece of work. */
const RUN = /^[A-Za-z0-9._:-]{1,128}$/u

/**
 * One request of somebody we know. It becomes calls, each of which leaves its own entries in the recording; or it is
 * refused before that, and then this is what the recording has of it.
 */
export class Attempt {
  readonly #request: IncomingMessage
  readonly #deps: AttemptDeps
  readonly #url: string
  #principal: Principal | undefined
  #isCall = false

  /**
   * @param within set for what is asked for in streams that are open: by whom, and what. A token may have ended since; the
   * recording still knows whose streams they are.
   */
  constructor(
    request: IncomingMessage,
    deps: AttemptDeps,
    within?: { readonly principal: Principal; readonly url: string },
  ) {
    this.#request = request
    this.#deps = deps
    this.#url = within?.url ?? request.url ?? ''
    this.#principal = within?.principal
  }

  /** @throws SallyportError `ERR_UNAUTHENTICATED`, `ERR_INVALID_INPUT`, `ERR_UNKNOWN_TARGET` */
  async admit(): Promise<Known> {
    const { rawHeaders } = this.#request
    // Nothing is said about a request before it is known who sends it.
    const principal = await this.#deps.authenticate(tokenIn(rawHeaders))
    this.#principal = principal
    checkFraming(rawHeaders)
    const place = placeOf(this.#url)
    const target = this.#deps.target(place.target)
    if (target?.protocol !== 'kubernetes') {
      throw new SallyportError('ERR_UNKNOWN_TARGET', 'There is no Kubernetes target of that name.')
    }
    return { principal, target, rest: place.rest }
  }

  /** The session its calls belong to. */
  join(principal: Principal): Promise<Session> {
    const run = this.#request.headers['sallyport-run']
    return this.#deps.sessions.join({
      principal,
      door: 'kubernetes',
      ...(typeof run === 'string' && RUN.test(run) && { run }),
    })
  }

  run(call: Call): AsyncIterable<Chunk> {
    this.#isCall = true
    return this.#deps.run(call)
  }

  /**
   * Records what never became a call, and returns what its sender is told. Strangers leave no entry: a recording belongs
   * to somebody, and whoever can fill it without a token could fill the disk.
   */
  async refused(error: SallyportError): Promise<SallyportError> {
    if (this.#isCall || this.#principal === undefined) return error
    const { method = '' } = this.#request
    const [, target] = /^\/([a-z0-9][a-z0-9._-]{0,62})(?:\/|$)/u.exec(this.#url) ?? []
    try {
      const { recording } = await this.join(this.#principal)
      await recording.refused({
        tool: KUBERNETES_TOOL,
        ...(target !== undefined && { target }),
        payload: { method, path: this.#url },
        error,
      })
      return error
    } catch (cause) {
      return SallyportError.from(cause)
    }
  }
}
