import { MessageWriter } from './bytes.ts'

/** Messages of a client without a body. */
export const SYNC = new MessageWriter('S').done()
export const FLUSH = new MessageWriter('H').done()
export const TERMINATE = new MessageWriter('X').done()

/** Answers of a server without a body. */
export const PARSE_COMPLETE = new MessageWriter('1').done()
export const BIND_COMPLETE = new MessageWriter('2').done()
export const CLOSE_COMPLETE = new MessageWriter('3').done()
