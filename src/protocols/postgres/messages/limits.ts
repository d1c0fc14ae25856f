/**
 * The most that is taken of a peer before anything of it is kept, each with where PostgreSQL sets its own.
 *
 * @packageDocumentation
 */

/** `MAX_STARTUP_PACKET_LENGTH` (`libpq/pqcomm.h`): a start-up packet, its length word included. */
export const STARTUP_BYTES_MAX = 10_000

/** `PG_MAX_SASL_MESSAGE_LENGTH` (`libpq/sasl.h`): whatever a client sends to prove who it is. */
export const AUTH_BYTES_MAX = 1_024

/** `PQ_SMALL_MESSAGE_LIMIT` (`libpq/libpq.h`): messages that carry a name or a number. */
export const SMALL_BYTES_MAX = 10_000

/**
 * Query, Parse and Bind. PostgreSQL takes a gigabyte (`PQ_LARGE_MESSAGE_LIMIT`); a statement is judged whole, so it is
 * held whole, and one session may not hold more than this.
 */
export const LARGE_BYTES_MAX = 16 * 1024 ** 2

/** One CopyData message. It is handed on as it comes in pieces, so this only bounds what a client can announce. */
export const COPY_BYTES_MAX = 16 * 1024 ** 2

/** `MaxTupleAttributeNumber` (`access/htup_details.h`): columns of a result. */
export const COLUMNS_MAX = 1_664

/** A message of a backend that is read rather than handed on, such as an ErrorResponse or a RowDescription. */
export const BACKEND_BYTES_MAX = 16 * 1024 ** 2
