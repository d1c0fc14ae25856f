/**
 * What policies may say about PostgreSQL, as data: the documentation and the validation of policies are made from it.
 *
 * How a statement becomes parts:
 * - each relation read is `sql.select` on `schema.name` with the columns read; RETURNING reads its target;
 * - as in PostgreSQL's own privileges, a write whose WHERE, SET or ON CONFLICT reads columns of its target has
 *   `sql.select` on those columns besides;
 * - a write is `sql.insert`, `sql.update` or `sql.delete` on its target with the columns written; MERGE is `sql.merge`
 *   and what its actions do; `ON CONFLICT DO UPDATE` is an insert and an update;
 * - what the catalog adds (cascades, triggers, defaults, policies) are parts with `via`;
 * - what is no query has a part of its own kind on each object it names, whether the object exists or is made, and the
 *   parts of the queries and functions inside it; storing code for the server to run is `sql.code` besides, deciding who
 *   may do what is `sql.grant`, and what concerns the whole server is `sql.server`;
 * - EXECUTE and FETCH have the parts of the statement they run;
 * - what is not understood has whatever parts could be told, so that a rule can deny it by name and say why, **and**
 *   `sql.unknown`, so that no rule can allow it by another name.
 *
 * @packageDocumentation
 */
import type { ActionClass, AttributeSpec, Taxonomy, VerbSpec } from '../../core/action.ts'
import { PINNED_SETTINGS, READABLE_SETTINGS, SETTABLE_SETTINGS } from './settings.ts'

const columnsRead: AttributeSpec = {
  type: 'list(string)',
  summary: 'Columns the statement may read of it, sorted; every column where that is not certain.',
}
const columnsWritten: AttributeSpec = { type: 'list(string)', summary: 'Columns the statement assigns, sorted.' }
const hasWhere: AttributeSpec = {
  type: 'bool',
  summary:
    'Whether a WHERE (for MERGE: its ON) narrows it down everywhere it appears; one that is always true does not count.',
}
const locking: AttributeSpec = { type: 'bool', summary: 'Whether rows are locked (FOR UPDATE, FOR SHARE …).' }
const returning: AttributeSpec = { type: 'bool', summary: 'Whether a RETURNING clause shows rows of it.' }
const via: AttributeSpec = {
  type: 'string',
  summary:
    'Empty when the statement says it; otherwise what does: cascade, trigger, event_trigger, default, policy, view, index, operator, cast, type, attribute, or what an object that is made will run.',
}

/** SELECT, INSERT, UPDATE, DELETE, MERGE, EXPLAIN, SHOW, and the functions in anything. */
const queries: readonly VerbSpec[] = [
  verb('sql.select', 'read', 'Reads a relation, or nothing at all.', {
    columns_read: columnsRead,
    has_where: hasWhere,
    locking,
    returning,
    via,
  }),
  verb('sql.insert', 'write', 'Adds rows.', { columns_written: columnsWritten, returning, via }),
  verb('sql.update', 'write', 'Changes rows.', {
    columns_read: columnsRead,
    columns_written: columnsWritten,
    has_where: hasWhere,
    returning,
    via,
  }),
  verb('sql.delete', 'write', 'Removes rows.', { columns_read: columnsRead, has_where: hasWhere, returning, via }),
  verb('sql.merge', 'write', 'Runs MERGE on a table; its actions are parts of their own.', {
    has_where: hasWhere,
    returning,
  }),
  verb('sql.lock', 'write', 'Locks rows of a relation that is read.', {}),
  verb('sql.call', 'exec', 'Runs a function that is not a harmless part of PostgreSQL.', {
    via,
    volatility: { type: 'string', summary: 'immutable, stable or volatile, as the catalog declares it.' },
    language: { type: 'string', summary: 'Language it is written in.' },
    security_definer: { type: 'bool', summary: 'Whether it runs with the rights of its owner.' },
    extension: { type: 'string', summary: 'Extension it belongs to, or empty.' },
  }),
  verb('sql.explain', 'read', 'Shows how the statement inside would run; that statement has its own parts.', {
    analyze: { type: 'bool', summary: 'Whether ANALYZE is mentioned, which runs the statement.' },
  }),
  verb('sql.show', 'session', 'Shows a setting; its name in lower case is the resource, `all` for SHOW ALL.', {}),
  verb('sql.monitor', 'admin', 'Reads a system catalog that shows data, sessions or credentials, such as pg_stats.', {
    columns_read: columnsRead,
    has_where: hasWhere,
    locking,
    returning,
    via,
  }),
  verb('sql.unknown', 'unknown', 'Something in the statement is not understood.', {
    reasons: { type: 'list(string)', summary: 'What was not understood, one sentence each.' },
  }),
]

const object: AttributeSpec = {
  type: 'string',
  summary: 'Kind of object in the words of the grammar: table, index, materialized view, function, role, schema …',
}
const cascade: AttributeSpec = { type: 'bool', summary: 'Whether CASCADE is said.' }
const operation = (summary: string): AttributeSpec => ({ type: 'string', summary })
const direction: AttributeSpec = { type: 'string', summary: '`in` (FROM) or `out` (TO).' }
const format: AttributeSpec = { type: 'string', summary: 'text, csv or binary.' }
const scope: AttributeSpec = { type: 'string', summary: '`session`, or `transaction` for SET LOCAL and its like.' }
const preparedTransaction: AttributeSpec = { type: 'bool', summary: 'Whether it is about a two-phase transaction.' }

/** Everything that is no query. */
const utilities: readonly VerbSpec[] = [
  verb('sql.create', 'admin', 'Makes an object; its name is the resource. A trigger, rule or policy: its table.', {
    object,
    temporary: { type: 'bool', summary: 'Whether it goes with the session.' },
  }),
  verb('sql.alter', 'admin', 'Changes or renames an object, or ties something to it (an index, a foreign key …).', {
    object,
    changes: {
      type: 'list(string)',
      summary: 'What of it changes, sorted: add column, drop column, owner, rename, index, referenced …',
    },
  }),
  verb('sql.drop', 'admin', 'Drops an object.', { object, cascade, via }),
  verb('sql.truncate', 'admin', 'Empties a table.', {
    cascade,
    restarts: { type: 'bool', summary: 'Whether sequences of its columns start again.' },
    via,
  }),
  verb('sql.code', 'exec', 'Stores, changes or unhooks code that the server runs by itself or for others.', {
    language: { type: 'string', summary: 'Language it is written in, where that is said.' },
    security_definer: { type: 'bool', summary: 'Whether it is to run with the rights of its owner.' },
  }),
  verb('sql.grant', 'admin', 'Decides who may do what: privileges, roles, owners, row security, labels.', {
    kind: {
      type: 'string',
      summary:
        'grant, revoke, grant role, revoke role, default privileges, role, owner, policy, row security or label.',
    },
    grantees: { type: 'list(string)', summary: 'Roles it is about; `public` is everybody.' },
    privileges: { type: 'list(string)', summary: 'Privileges, or attributes of a role, sorted.' },
    grant_option: { type: 'bool', summary: 'Whether they may pass it on.' },
  }),
  verb('sql.comment', 'admin', 'Comments on or labels an object.', { object }),
  verb('sql.maintain', 'admin', 'Vacuums, analyzes, reindexes, clusters, refreshes, checkpoints.', {
    operation: operation('vacuum, analyze, reindex, cluster, refresh or checkpoint.'),
    options: { type: 'list(string)', summary: 'Its options by name, such as full.' },
  }),
  verb('sql.server', 'admin', 'Concerns the whole server, or what it exchanges with others.', {
    operation: operation(
      'alter system, database, tablespace, publication, subscription, extension, event trigger, foreign server …',
    ),
  }),
  verb('sql.copy', 'admin', 'Moves rows through the connection; what is read or filled are parts of their own.', {
    direction,
    format,
  }),
  verb('sql.copy_file', 'exec', 'Has the server read or write a file of its own.', { direction, format }),
  verb('sql.copy_program', 'exec', 'Has the server run a program.', { direction, format }),
  verb('sql.do', 'exec', 'Runs an anonymous code block, which nobody here reads.', {
    language: { type: 'string', summary: 'Language it is written in.' },
  }),
  verb('sql.load', 'exec', 'Loads a library into the server.', {}),
  verb(
    'sql.set',
    'session',
    'Changes or resets a setting; its name in lower case is the resource, `all` for RESET ALL.',
    {
      scope,
      reset: { type: 'bool', summary: 'Whether it goes back to its default.' },
      value: { type: 'string', summary: 'What it becomes; several values with commas between them.' },
    },
  ),
  verb('sql.set_role', 'admin', 'Becomes another role; the role is the resource, `-` for going back.', {
    setting: { type: 'string', summary: 'role or session_authorization.' },
    scope,
  }),
  verb('sql.begin', 'session', 'Starts a transaction.', {
    isolation: { type: 'string', summary: 'Its isolation level, where that is said.' },
    read_only: { type: 'bool', summary: 'Whether it is READ ONLY for certain.' },
  }),
  verb('sql.commit', 'session', 'Ends a transaction, keeping it.', { prepared: preparedTransaction }),
  verb('sql.rollback', 'session', 'Ends a transaction or goes back to a savepoint.', { prepared: preparedTransaction }),
  verb('sql.savepoint', 'session', 'Sets or releases a savepoint.', {}),
  verb('sql.discard', 'session', 'Discards state of the session.', {
    what: { type: 'string', summary: 'all, plans, sequences or temp.' },
  }),
  verb('sql.prepare', 'session', 'Prepares, executes or deallocates a statement, which has its own parts.', {
    operation: operation('prepare, execute or deallocate.'),
  }),
  verb('sql.cursor', 'session', 'Declares, fetches from, moves or closes a cursor; its query has its own parts.', {
    operation: operation('declare, fetch, move or close.'),
    hold: { type: 'bool', summary: 'Whether it outlives its transaction.' },
    binary: { type: 'bool', summary: 'Whether it yields values in binary form.' },
  }),
  verb('sql.notify', 'session', 'Sends or listens for notifications; the channel is the resource.', {
    operation: operation('notify, listen or unlisten.'),
  }),
  verb('sql.lock_table', 'write', 'Locks a table.', {
    mode: { type: 'string', summary: 'Such as `access exclusive`.' },
    nowait: { type: 'bool', summary: 'Whether it gives up instead of waiting.' },
  }),
]

/** Verbs, attributes and bundles of PostgreSQL. */
export const taxonomy: Taxonomy = {
  protocol: 'postgres',
  prefix: 'sql',
  verbs: [...queries, ...utilities],
  actionAttributes: {
    statement: {
      type: 'string',
      summary:
        'select, insert, update, delete, merge, explain or show; for anything else its verb without `sql.` (create, copy, begin …), several for more than one, unknown where it is not understood; empty without a statement.',
    },
    masking: {
      type: 'string',
      summary:
        'What stands behind the masks that hold for the caller: `enforced` (the backend role may not read the columns), `rewrite` or `none`.',
    },
    statement_count: { type: 'int', summary: 'How many statements the text holds; several run in one transaction.' },
    parameter_count: { type: 'int', summary: 'How many values were given for `$1` and so on.' },
  },
  bundles: {
    'sql.client': {
      summary:
        'What clients need before they can work: the structure of the database, transactions, prepared statements and cursors (what runs in them has its own parts), and settings that neither hold a secret nor change what a statement means.',
      grants: [
        { verb: 'sql.select', resources: ['-', 'pg_catalog.*', 'information_schema.*'] },
        { verb: 'sql.show', resources: READABLE_SETTINGS },
        { verb: 'sql.set', resources: ['all', ...PINNED_SETTINGS.keys(), ...SETTABLE_SETTINGS] },
        { verb: 'sql.begin', resources: ['-'] },
        { verb: 'sql.commit', resources: ['-'] },
        { verb: 'sql.rollback', resources: ['-'] },
        { verb: 'sql.savepoint', resources: ['-'] },
        { verb: 'sql.discard', resources: ['-'] },
        { verb: 'sql.prepare', resources: ['-'] },
        { verb: 'sql.cursor', resources: ['-'] },
      ],
    },
  },
}

function verb(
  name: string,
  actionClass: ActionClass,
  summary: string,
  attributes: Readonly<Record<string, AttributeSpec>>,
): VerbSpec {
  return { verb: name, class: actionClass, summary, attributes }
}
